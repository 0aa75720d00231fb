"""python -m jobs.synthesize output=DIR [--config FILE] [key=value ...] [--dry-run]

Draws the synthetic world under DIR/world (or world=DIR): a labelled set in HO-3D's layout, videos and boxes in those of
Something-Something v2 and Something-Else, test images in FreiHAND's, object models in YCB's, the stand-in hand as a
MANO file. The settings under 'synthetic' are its sizes. A complete world is left as it is; a part of one is completed.
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
    """Draw the pieces of the world that are missing."""
    world = write.world_of(config)
    check_writable(str(world))
    if write.is_complete(config):
        print(f"{world} is complete; nothing to do")
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
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
