"""What one shard of an ingested set holds; loads no torch, for ``jobs.status`` reads it. Not here: samples."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.labelling.counts import Tally


@dataclass
class Counts(Tally):
    """Of one committed shard."""

    samples: int = 0
    held_out: int = 0  # of these, how many are of held-out recordings: all or none
    image_bytes: int = 0
