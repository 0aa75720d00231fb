"""Pseudo-labelling on Ray Data: units, Teachers, guarded decoding, commits, the attempt ledger."""
