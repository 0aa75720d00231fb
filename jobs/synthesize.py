"""Draw the synthetic world: python -m jobs.synthesize output=DIR [key=value ...]

Writes, under DIR/world (or world=DIR), a labelled set as HO-3D, videos and boxes as Something-Something v2 and
Something-Else, test images as FreiHAND's evaluation set, object models as YCB and the stand-in hand as a MANO file.
Sizes: the settings under 'synthetic'. A world that is whole is left alone; a part of one is completed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from cluster.store import check_writable
from cluster.synthesis import synthesize
from hojoint.config import Config
from hojoint.synthetic import write
from jobs import command


def job(config: Config, dry_run: bool) -> None:
    """Say what is there, draw what is not."""
    world = write.world_of(config)
    check_writable(str(world))
    if write.is_complete(config):
        print(f"{world} is whole; nothing to do")
        return
    todo = write.missing_pieces(config)
    frames = sum(write.frames_of(piece, config) for piece in todo)
    size = config.synthetic
    if dry_run:
        print(
            f"would draw {len(todo)} of {len(write.pieces(config))} pieces, {frames} frames, into {world}:\n"
            f"  {size.train_sequences} + {size.evaluation_sequences} labelled sequences of {size.train_frames} and "
            f"{size.evaluation_frames} frames\n"
            f"  {size.wild_videos} videos of {size.wild_frames} frames, {size.broken_videos} broken ones\n"
            f"  {size.test_images} test images"
        )
        return
    started = time.monotonic()
    synthesize(config)
    seconds = time.monotonic() - started
    print(f"{world}: {frames} frames in {seconds:.0f} s ({frames / max(seconds, 1e-9):.0f} per second)")


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
