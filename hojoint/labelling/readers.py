"""The one place that names decoders: ``open_reader`` opens a video, or a folder of pictures, with the one that is set.

Not here: the readers themselves (``pyav_reader``, ``checked_readers``, ``frame_folder``), what they are asked
(``collecting``).
"""

from __future__ import annotations

import importlib
import os

from hojoint.errors import InputError
from hojoint.labelling.pictures import Reader

MODULES = {"pyav": "av", "decord": "decord", "torchcodec": "torchcodec.decoders"}
DEFAULT = "pyav"


def open_reader(path: str, decoder: str = DEFAULT) -> Reader:
    """Open a video file with a decoder of ``MODULES``; a folder of pictures needs none.

    Raises:
        VideoError: it cannot be opened, or not be trusted.
    """
    if os.path.isdir(path):
        from hojoint.labelling.frame_folder import FolderReader

        return FolderReader(path)
    if decoder == "pyav":
        from hojoint.labelling.pyav_reader import PyavReader

        return PyavReader(path)
    from hojoint.labelling import checked_readers

    return checked_readers.DecordReader(path) if decoder == "decord" else checked_readers.TorchcodecReader(path)


def load(decoder: str) -> None:
    """Import a decoder's library.

    Raises:
        InputError: it is not installed, or does not load.
    """
    try:
        importlib.import_module(MODULES[decoder])
    except (ImportError, OSError, RuntimeError) as error:  # torchcodec raises RuntimeError without a system's FFmpeg
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"labelling.decoder={decoder} needs the package {MODULES[decoder].partition('.')[0]}, which does not load: "
            f"{first[:200]}. Install it on every node, or set labelling.decoder=pyav"
        ) from None
