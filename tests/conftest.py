"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest_plugins = ["s3_server", "scripted_s3", "video_files"]

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # hermetic: no token file in anybody's home
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the suite shares its cores with Ray's workers

LONGEST = (
    *("test_end_to_end.py", "test_faults.py", "test_training.py", "test_ranges.py", "test_detection_job.py"),
    *("test_local_cluster.py", "test_study.py", "test_video_sweep.py", "test_bench.py", "test_stream_bench.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: one that begins last would leave the other worker without work."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True, scope="session")
def one_thread_each() -> None:
    """Small networks are slower on many threads."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """One Ray session for a file's tests: jobs that they call in this process use it and start none of their own."""
    from cluster import session
    from hojoint.config import ClusterConfig

    with session.start(ClusterConfig(cpus=2, object_store_mb=100)):
        yield
