"""Where inputs come from: videos and data sets in folders, in object storage and in tar shards.

``list_videos`` names every video under a root once, in the order of their ids; ``fetched`` lends a local file of one of
them for the time of a block, so that decoders need no more than a path. A URI of this package is a path, a folder of
numbered pictures, ``s3://bucket/key`` with any letters in the key, ``s3://bucket/folder/`` (pictures), or a member of a
tar file, ``<tar>#<offset>+<size>/<name>``.
"""

from __future__ import annotations

from cluster.sources.fetching import FetchLimits, fetched
from cluster.sources.listing import list_videos
from cluster.sources.naming import Entry

__all__ = ["Entry", "FetchLimits", "fetched", "list_videos"]
