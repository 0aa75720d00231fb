"""Plain tables of boxes, CSV or Parquet, one row per box: the format of jobs.detect and of everybody else's exports."""

from __future__ import annotations

import pyarrow as pa

VERSION_KEY = b"hojoint.boxes"
VERSION = 1
BOXES_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("frame", pa.int32()),  # 0-based; null in the one row of a video that was looked at and shows no hand
        pa.field("time_s", pa.float64()),  # of the picture, the first of the video at 0; null where it is not known
        *(pa.field(corner, pa.float32()) for corner in ("x1", "y1", "x2", "y2")),  # px; null in a row without a box
        pa.field("side", pa.string()),  # 'right' or 'left'
        pa.field("score", pa.float32()),
        pa.field("track", pa.int32()),  # rows of one number are one hand
        pa.field("filled", pa.bool_()),  # between two detections, not detected itself
    ],
    metadata={VERSION_KEY: str(VERSION).encode()},
)
"""What jobs.detect writes. A row with a frame and null corners says that the frame was looked at and shows no hand."""
