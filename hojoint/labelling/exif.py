"""The orientation that EXIF data inside a JPEG or PNG picture ask for, as OpenCV applies it while it decodes.

Of all that cameras write, only the tag 0x0112 of the first directory counts. Pillow would decode a PNG without EXIF
data completely to tell. Not here: the turn itself.
"""

from __future__ import annotations

import struct

from hojoint.labelling.orientation import UPRIGHT, Orientation

MARKS = (b"Exif\0\0", b"eXIf")  # of a JPEG's segment and of a PNG's chunk; then TIFF follows
TIFF = {b"II*\0": "<", b"MM\0*": ">"}  # its first bytes, and the order of all others
ORIENTATION, ENTRY_BYTES = 0x0112, 12
_OF_VALUES = {
    1: UPRIGHT,
    2: Orientation(0, True),
    3: Orientation(180),
    4: Orientation(180, True),
    5: Orientation(90, True),
    6: Orientation(90),
    7: Orientation(270, True),
    8: Orientation(270),
}


def orientation_of(data: bytes) -> Orientation | None:
    """What a picture file asks for: nothing without EXIF data, or without the tag; None where they cannot be read."""
    places = [(data.find(mark + first), len(mark), order) for mark in MARKS for first, order in TIFF.items()]
    found = min((place for place in places if place[0] >= 0), default=None)
    if found is None:
        return UPRIGHT
    tiff, order = memoryview(data)[found[0] + found[1] :], found[2]
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for number in range(entries):
            at = directory + 2 + number * ENTRY_BYTES
            if struct.unpack_from(f"{order}H", tiff, at)[0] == ORIENTATION:
                return _OF_VALUES.get(struct.unpack_from(f"{order}H", tiff, at + 8)[0], UPRIGHT)
    except struct.error:
        return None
    return UPRIGHT
