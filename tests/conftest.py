"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest

pytest_plugins = ["s3_server", "scripted_s3", "video_files"]

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # hermetic: no token file in anybody's home
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the suite shares its cores with Ray's workers

SHARING = (  # use ``ray_session``; next to each other, so that one session lasts for all that a process gets of them
    *("test_faults.py", "test_training.py", "test_bench.py", "test_evaluate.py", "test_calibration.py"),
    *("test_refilter.py", "test_ingest.py", "test_synthesis.py"),
)
LONGEST = (
    *("test_end_to_end.py", *SHARING, "test_ranges.py", "test_detection_job.py", "test_local_cluster.py"),
    *("test_study.py", "test_video_sweep.py", "test_stream_bench.py"),
)
_shared = contextlib.ExitStack()  # holds the Ray session that files share


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: one that begins last would leave the other worker without work."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The shared session ends before a file that does not use it: some need a Ray of their own, or none."""
    if item.path.name not in SHARING:
        _shared.close()


def pytest_sessionfinish() -> None:
    """The shared session ends with the last test."""
    _shared.close()


@pytest.fixture(autouse=True, scope="session")
def one_thread_each() -> None:
    """Small networks are slower on many threads."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def layer() -> Any:
    """The stand-in hand."""
    from hojoint.config import ManoConfig
    from hojoint.hand.factory import hand_layer

    return hand_layer(ManoConfig())


@pytest.fixture(scope="module")
def axes(layer: Any) -> Any:
    """The axes of its fingers."""
    from exact_hand import axes_of

    return axes_of(layer)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labelling without Ray; see ``wild.without_ray``."""
    import wild

    wild.without_ray(monkeypatch)


@pytest.fixture(scope="module")
def ray_session(request: pytest.FixtureRequest) -> None:
    """A Ray session for the tests of ``SHARING``: jobs that they call in this process use it and start none."""
    import ray

    from cluster import session
    from hojoint.config import ClusterConfig

    assert request.path.name in SHARING, "name the file in conftest.SHARING"
    if not ray.is_initialized():
        _shared.enter_context(session.start(ClusterConfig(cpus=2, object_store_mb=100)))
