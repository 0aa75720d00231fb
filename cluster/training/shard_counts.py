"""What one shard of an ingested set holds, and where; loads no torch, for status and gc read it. Not here: samples."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.labelling.counts import Tally

SAMPLES = "samples"  # the folder of the shards, and the name of their table


@dataclass
class Counts(Tally):
    """Of one committed shard."""

    samples: int = 0
    held_out: int = 0  # of these, how many are of held-out recordings: all or none
    image_bytes: int = 0
