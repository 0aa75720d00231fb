"""Official scores, submission files, and what labels are worth against a truth (Sec. 6.2)."""
