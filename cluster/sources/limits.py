"""What fetching one video may cost."""

from __future__ import annotations

from dataclasses import dataclass

from hojoint.config import LabellingConfig
from hojoint.labelling.video import VideoError


@dataclass(frozen=True)
class FetchLimits:
    """What one video may take."""

    size: int = 2**30  # bytes
    deadline_s: float = 120.0  # retries included

    @classmethod
    def of(cls, config: LabellingConfig) -> FetchLimits:
        """The settings of labelling."""
        return cls(config.max_file_mb * 2**20, config.fetch_deadline_s)

    def check(self, size: int) -> None:
        """Raise VideoError for a video of ``size`` bytes that is too large."""
        if size > self.size:
            found = f"{size / 2**20:.1f} MB; labelling.max_file_mb={self.size / 2**20:g}"
            raise VideoError("too_large", found)
