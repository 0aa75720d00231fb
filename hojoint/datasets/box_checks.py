"""Do boxes belong to their videos? Faults of a complete list (``Census``), and of one video once decoded (``misfit``).

What is certainly wrong is refused or quarantined, with numbers, the likely cause and the remedy; what may be right is
noted. Not here: damaged files, which their readers refuse.
"""

from __future__ import annotations

from collections.abc import Sequence

from hojoint.datasets.video_boxes import VideoBoxes
from hojoint.records import Clip, Footage


class Census:
    """Counts over a complete list of boxes."""

    def add(self, boxes: VideoBoxes) -> None:
        """Count one video."""

    def refuse_or_note(self) -> tuple[str, ...]:
        """Notes for the user, once every video is counted.

        Raises:
            InputError: no video of the list can be labelled right.
        """
        return ()


def misfit(clips: Sequence[Clip], size: tuple[int, int], footage: Footage | None) -> tuple[str, str] | None:
    """Class and message of the quarantine row for a video whose boxes are not of its pictures; None where they fit.

    Args:
        clips: all clips of the video, as listed (not cut to the decoded frames).
        size: width and height of the decoded pictures, px, as displayed.
        footage: what is known of the file.
    """
    return None
