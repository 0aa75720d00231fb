"""One Ray session per driver: start a local cluster or attach to a running one.

``start`` is a context manager that nests: the inner ones use what the outermost opened. Not here: whether a job fits
(``capacity``), what runs on the cluster.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray

from cluster import ending, nodes, owned_folders, patience, processors
from cluster.patience import first_line
from cluster.store.base import CHECKSUMS
from hojoint.config import ClusterConfig
from hojoint.errors import InputError, Unavailable

ROOT = Path(__file__).resolve().parent.parent
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no statistics to Ray's authors
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; unset, it warns on every start
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # the jobs print their own
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative path means the same to a training worker as to the driver
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # Ray's minute is short for a loaded machine that imports torch
    **CHECKSUMS,  # Ray Train's own uploads run in workers: they must inherit what our store sets
}
LOCAL = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # this machine is not preempted: saves an actor of 200 MB
    # glibc returns large blocks to the kernel and faults them in again, every step: an eighth of a step on a CPU.
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
}
LOST = (
    ray.exceptions.ActorDiedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.WorkerCrashedError,
)
TRIES = 2  # to start a local session
FOLDER = "hojoint-ray-"  # begins the name of a local session's folder
WATCH_EVERY_S = 5.0  # between two looks whether the cluster answers
SOCKET_PATH_LIMIT = 107  # bytes in a Unix socket address; Ray adds about 60 to the name of its folder
ADDRESS = re.compile(r"auto|local|(ray://)?[^\s/]+:(\d{1,5})")
ATTACHING = (
    "Is it running and reachable from here? If it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
)


@contextlib.contextmanager
def start(config: ClusterConfig) -> Iterator[None]:
    """A Ray session for the time of the ``with`` block; inside another session it does nothing.

    Raises:
        InputError: the cluster at ``cluster.address`` refuses.
        Unavailable: it has not answered for ``cluster.patience_s``, a local session did not start, or the block has
            lost more workers than Ray starts again.
    """
    if ray.is_initialized():
        yield
        return
    with (
        _environment(QUIET),
        patience.granted(config.patience_s),
        _losses_named(),
        _attached(config) if config.address else _local(config),
    ):
        yield


@contextlib.contextmanager
def _losses_named() -> Iterator[None]:
    """Unavailable for a lost worker, in a sentence; what a worker raised is none."""
    try:
        yield
    except LOST as error:
        if "creation task" in str(error):  # its own code failed at the start: a fault, and a new try fails alike
            raise
        full = isinstance(error, ray.exceptions.OutOfMemoryError)
        why = " Ray's memory monitor ended it: the node's memory is full." if full else ""
        raise Unavailable(
            f"a worker was lost, and those that were started in its place too ({first_line(error)}).{why} Look for a "
            "node that is away, or give each worker more memory. The same command resumes"
        ) from None


@contextlib.contextmanager
def _local(config: ClusterConfig) -> Iterator[None]:
    with _folder() as folder:
        # Workers are grandchildren of this process: they inherit credentials and, through PYTHONPATH, our packages.
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        try:
            with _environment({"PYTHONPATH": path, **LOCAL}):
                _start_local(config, folder)
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """The session's folder, removed at the end; those of sessions that were killed are removed first."""
    parent = tempfile.gettempdir()
    # A Unix socket's address is short: in a folder of long name there is no room for Ray's.
    parent = parent if len(parent) + len(FOLDER) + 9 <= SOCKET_PATH_LIMIT - 65 else "/tmp"
    folder, lock = owned_folders.make(parent, FOLDER)
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _start_local(config: ClusterConfig, folder: str) -> None:
    """Start Ray on this machine; a second time where the first fails, as on a machine that is busy for a moment.

    Raises:
        Unavailable: it did not start.
    """
    for attempt in range(1, TRIES + 1):
        try:
            ray.init(
                address="local",
                num_cpus=config.cpus or processors.usable(),
                object_store_memory=config.object_store_mb and config.object_store_mb * 2**20,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=folder,
            )
            ending.renew()  # Ray has set its own handlers of signals
            return
        except Exception as error:  # Ray raises many kinds, plain Exception among them
            ray.shutdown()
            if attempt == TRIES:
                raise Unavailable(
                    f"Ray did not start on the node {socket.gethostname()} in {TRIES} tries: {first_line(error)}. The "
                    "machine is probably busy, or its memory or the folder of temporary files is full; run the command "
                    "again when there is room"
                ) from None
            print(f"note: Ray did not start ({first_line(error)}); try {attempt + 1} of {TRIES}", flush=True)


@contextlib.contextmanager
def _attached(config: ClusterConfig) -> Iterator[None]:
    refuse_other_addresses(str(config.address))
    what = f"Ray cluster at cluster.address={config.address}"
    try:
        patience.ridden_out(lambda: _check_reachable(str(config.address)), _is_network, what)
        with _environment({"RAY_gcs_rpc_server_reconnect_timeout_s": f"{config.patience_s + 60:.0f}"}):
            ray.init(
                address=config.address,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env=_worker_environment(),
            )
        ending.renew()  # Ray has set its own handlers of signals
    except Unavailable as error:
        raise Unavailable(f"cannot attach to the {error}. {ATTACHING}") from None
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        ray.shutdown()
        raise InputError(f"cannot attach to the {what}: {first_line(error)}. {ATTACHING}") from None
    over = threading.Event()
    address = str(config.address)
    head = address if address.startswith("ray://") else str(ray.get_runtime_context().gcs_address)
    threading.Thread(target=_watch, args=(head, what, over), daemon=True).start()
    try:
        with nodes.reported():
            yield
    except (OSError, ray.exceptions.RayError) as error:
        if _answers(head):
            raise
        raise Unavailable(f"{what} does not answer any more: {first_line(error)}. The same command resumes") from None
    finally:
        over.set()
        ray.shutdown()


def refuse_other_addresses(address: str) -> None:
    """InputError for an address to which no driver can attach: waiting for an answer would be in vain."""
    if address.startswith(("http://", "https://")):
        raise InputError(
            f"cluster.address={address} is the dashboard's address, which takes jobs that are sent: send this one with "
            "jobs.submit submit.job=NAME, or give cluster.address=auto on a node of the cluster, or HOST:PORT of its "
            "head"
        )
    found = ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2] or 1) < 2**16:
        raise InputError(
            f"cluster.address={address} is no address of a Ray cluster; expected auto, HOST:PORT as in 10.0.0.4:6379, "
            "or ray://HOST:PORT"
        )


def _watch(head: str, what: str, over: threading.Event) -> None:
    """Until ``over``, see whether the cluster's head answers, and end the run when it has not for the patience.

    Ray's client itself says nothing, and after its own limit it aborts the process.
    """

    def answers() -> None:
        if not over.is_set():
            _check_reachable(head)

    while not over.wait(WATCH_EVERY_S):
        try:
            patience.ridden_out(answers, _is_network, what)
        except Unavailable as error:
            if not over.is_set():
                ending.end(str(error))
            return


def _is_network(error: Exception) -> bool:
    return isinstance(error, OSError)


def _answers(address: str) -> bool:
    with contextlib.suppress(OSError):
        _check_reachable(address)
        return True
    return False


def _check_reachable(address: str) -> None:
    """Raise OSError where nothing listens; Ray itself would try for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()  # [::1] is an address of IPv6


def _worker_environment() -> dict[str, Any]:
    """For the workers of a running cluster: our packages, unless a submitted job brings them, and S3's settings."""
    environment: dict[str, Any] = {"env_vars": CHECKSUMS | patience.environment(patience.seconds())}
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        environment["py_modules"] = [str(ROOT / "hojoint"), str(ROOT / "cluster")]
    return environment


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the time of the block; a value that the user has set stays, PYTHONPATH excepted."""
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        if before[name] is None or name == "PYTHONPATH":
            os.environ[name] = value
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
