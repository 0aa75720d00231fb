"""jobs.detect on Ray: units of videos, their commits, and the one table of boxes."""
