"""Whether a file under another root is the one that a run labelled: a label belongs to the pixels that it was made of.

A video that was encoded again has other pixels, another size or other numbers of its pictures. The sizes of the files
tell, as they do for a run that resumes. Where one is not known, the pictures do, as far as the labels say what they
were. Not here: where the files lie (``files``).
"""

from __future__ import annotations

import pyarrow as pa

from cluster.sources import Entry
from hojoint.labelling import tables
from hojoint.labelling.video import Decoded

NEAR_S = 2e-3  # containers round times, WebM to milliseconds
NEAR_PX = 0.5


def other_size(labelled: Entry | None, found: Entry) -> str | None:
    """How the size of a file differs from that of the labelled one; '' where it does not, None where one is unknown.

    The size of a folder is that of all its pictures, wherever it lies.
    """
    if labelled is None or labelled.size is None or found.size is None:
        return None
    if labelled.size == found.size:
        return ""
    return f"{found.uri} has {found.size} bytes, and the labelled video {labelled.uri} had {labelled.size}"


def other_pictures(rows: pa.Table, decoded: Decoded) -> str | None:
    """How the pictures of a video differ from those that its labels were made of; None where nothing tells.

    Args:
        rows: predictions of some of its frames, one or more.
        decoded: pictures of the video, those of the rows among them.
    """
    known, now = rows["pictures"][0].as_py(), decoded.footage.pictures
    if None not in (known, now) and known != now:
        return f"{now} pictures, and the labelled video had {known}"
    height, width = decoded.rgb.shape[1:3]
    right, bottom = tables.array_of(rows, "hand_box")[:, 2:].max(axis=0)
    if len(decoded.rgb) and (right > width + NEAR_PX or bottom > height + NEAR_PX):
        return f"{width} x {height} px, and boxes of the labelled video reach {right:.0f}, {bottom:.0f}"
    times = {} if decoded.times_s is None else dict(zip(decoded.numbers.tolist(), decoded.times_s, strict=True))
    for frame, before in zip(rows["frame"].to_pylist(), rows["time_s"].to_pylist(), strict=True):
        after = times.get(frame)
        if before is not None and after is not None and abs(before - after) > NEAR_S:
            return f"picture {frame} is shown at {after:.3f} s, and that of the labelled video at {before:.3f} s"
    return None
