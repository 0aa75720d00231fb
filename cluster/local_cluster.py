"""A cluster of several nodes on this machine: real head, raylets, dashboard and token, to try what a large one does.

Every node is a process of its own, as ``ray start`` makes it, so that one can be lost. All that belongs to the cluster
lies in one folder and carries the folder's name in its environment (MARK): stopping ends those processes and no others.
The processes are found in /proc, so this works on Linux. Not here: what runs on it.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from cluster import loopback, processors
from cluster.session import QUIET, SOCKET_PATH_LIMIT
from hojoint.config import ClusterUpConfig
from hojoint.errors import InputError, MachineError, Unavailable

MARK, NODE = "HOJOINT_CLUSTER", "HOJOINT_CLUSTER_NODE"
"""Environment variables of every process of the cluster: its folder, and the number of its node; the head is 1."""
HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)  # beyond Ray's own for workers, below those of outgoing connections
START_S = 240.0  # for all nodes: a loaded machine takes a minute for each
END_S = 6.0  # for processes to end by themselves: a command that is told to end has 20 s in all
TRIES = 3
START_CPUS = 2  # that a starting node keeps busy for some seconds; Ray gives it 30 s, so not all start at once
LOOK_S = 0.5
WORDS = 5  # lines of a log in a message
UNSET = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR")
"""Variables that would attach the nodes, or their jobs, to another cluster."""


@dataclass(frozen=True)
class Running:
    """A cluster that is up."""

    folder: Path
    dashboard: str  # its address
    gcs: str  # host:port, for drivers
    nodes: dict[int, subprocess.Popen[bytes]]  # number -> its ``ray start``

    @property
    def token(self) -> Path:
        """The file with the token."""
        return self.folder / "token"

    def alive(self) -> list[int]:
        """Numbers of the nodes whose process runs."""
        return [number for number, process in self.nodes.items() if process.poll() is None]


def usual_folder() -> Path:
    """One for each user, so that another terminal finds it; its name is short, for the sockets in it."""
    name = f"hojoint-cluster-{os.getuid()}"
    folder = Path(tempfile.gettempdir()) / name
    return folder if len(str(folder)) <= SOCKET_PATH_LIMIT - 65 else Path("/tmp") / name


@contextlib.contextmanager
def running(config: ClusterUpConfig, folder: Path) -> Iterator[Running]:
    """A cluster for the time of the ``with`` block; afterwards its processes and its folder are gone.

    Raises:
        InputError: a cluster of this folder runs already, or the dashboard's port is taken.
        Unavailable: a node did not start.
    """
    _refuse_running(folder)
    _refuse_taken(config.port)
    _make_folder(folder)
    nodes: dict[int, subprocess.Popen[bytes]] = {}
    try:
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text(secrets.token_hex(32))
        yield _started(config, folder, nodes)
    finally:
        stop(folder)
        for process in nodes.values():
            process.wait(END_S)  # it was killed: takes its last status


def stop(folder: Path) -> int:
    """End the processes of the cluster in ``folder`` and remove it; how many processes there were."""
    count = _end(processes(folder), signal.SIGTERM)
    _end(processes(folder), signal.SIGKILL)  # what was started meanwhile
    shutil.rmtree(folder, ignore_errors=True)
    return count


def lose_node(folder: Path) -> int | None:
    """Kill the last node at once, as a machine that fails; its number, or None where only the head is left."""
    numbers = sorted({number for number in processes(folder).values() if number > 1})
    if not numbers:
        return None
    _end({pid: number for pid, number in processes(folder).items() if number == numbers[-1]}, signal.SIGKILL)
    return numbers[-1]


def add_node(config: ClusterUpConfig, made: Running) -> int:
    """Start one more node; its number. It joins when it is up."""
    number = max(made.nodes) + 1
    (agent,) = free_ports(1)
    words = [f"--address={made.gcs}", f"--dashboard-agent-listen-port={agent}"]
    made.nodes[number] = _start_node(config, made.folder, number, words)
    return number


def processes(folder: Path) -> dict[int, int]:
    """Process id -> number of its node, of this user's processes that carry the mark of ``folder``."""
    out = {}
    wanted = f"{MARK}={folder}".encode()
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        try:
            words = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # another user's, or ended meanwhile
        if wanted in words:
            numbers = [int(word.partition(b"=")[2]) for word in words if word.startswith(f"{NODE}=".encode())]
            out[int(place.name)] = numbers[0] if numbers else 1
    return out


def _end(pids: Mapping[int, int], first: signal.Signals) -> int:
    """Signal these processes, wait until they have ended, and kill what stays; how many they were."""
    for number in (first, signal.SIGKILL):
        for pid in filter(_lives, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + END_S
        while any(_lives(pid) for pid in pids) and time.monotonic() < end:
            time.sleep(0.1)
    return len(pids)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _refuse_running(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
        raise InputError(f"{folder} belongs to somebody else; set TMPDIR to a folder of yours")
    if folder.exists() and processes(folder):
        raise InputError(f"a cluster runs already in {folder}; stop it with: python -m jobs.cluster_up stop")


def _make_folder(folder: Path) -> None:
    """Make it for this user alone; what a killed command has left in it is removed first."""
    _refuse_running(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise InputError(f"something listens on port {port} already: give another one for the dashboard, port=8266")


def _started(config: ClusterUpConfig, folder: Path, nodes: dict[int, subprocess.Popen[bytes]]) -> Running:
    """As ``_start``, again where it fails: Ray gives a node 30 s, and a machine may be busy."""
    for attempt in range(1, TRIES):
        try:
            return _start(config, folder, nodes)
        except Unavailable as error:
            print(f"note: {error}; try {attempt + 1} of {TRIES}", flush=True)
            _end(processes(folder), signal.SIGKILL)
            for process in nodes.values():
                process.wait(END_S)
            nodes.clear()
    return _start(config, folder, nodes)


def _start(config: ClusterUpConfig, folder: Path, nodes: dict[int, subprocess.Popen[bytes]]) -> Running:
    """Start the head and then the others, as many at once as there are CPUs for; return when all have joined.

    Each is noted in ``nodes`` at once.
    """
    gcs, agent, client = free_ports(3)
    dashboard = f"http://{HOST}:{config.port}"
    loopback.reach_directly(dashboard)
    head = ["--head", f"--port={gcs}", f"--dashboard-host={HOST}", f"--dashboard-port={config.port}"]
    head += [f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"]
    nodes[1] = _start_node(config, folder, 1, head)
    made = Running(folder, dashboard, f"{HOST}:{gcs}", nodes)
    end = time.monotonic() + START_S
    _wait(made, 1, end)
    at_once = max(1, processors.usable() // START_CPUS)
    for joined in range(1, config.nodes, at_once):
        for _ in range(min(at_once, config.nodes - joined)):
            add_node(config, made)
        _wait(made, len(nodes), end)
    return made


def _start_node(config: ClusterUpConfig, folder: Path, number: int, words: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *(f"--temp-dir={folder}", f"--node-ip-address={HOST}", f"--node-name={name_of(number)}"),
        *(f"--num-cpus={config.cpus}", f"--num-gpus={config.gpus}"),
        f"--object-store-memory={config.object_store_mb * 2**20}",
        *("--min-worker-port=0", "--max-worker-port=0"),  # any free ones: all nodes share one address
        *words,
    ]
    with open(folder / f"{name_of(number)}.log", "wb") as log:
        return subprocess.Popen(
            command, env=_environment(folder, number), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder,
            start_new_session=True,  # Ctrl-C in the terminal is ours to handle
        )  # fmt: skip


def name_of(number: int) -> str:
    """As the dashboard shows a node."""
    return "head" if number == 1 else f"node-{number}"


def _environment(folder: Path, number: int) -> dict[str, str]:
    """This process's environment, credentials for object storage among it, with the cluster's token and mark."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    own = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        MARK: str(folder),
        NODE: str(number),
    }
    return {**QUIET, **kept, **own}


def _wait(made: Running, count: int, end: float) -> None:
    """Return when ``count`` nodes have joined.

    Raises:
        Unavailable: one has ended, or they have not by ``end``.
    """
    while (joined := _joined(made)) < count:
        dead = [number for number, process in made.nodes.items() if process.poll() is not None]
        if dead or time.monotonic() > end:
            which = name_of(dead[0] if dead else max(made.nodes))
            said = _last_words(made.folder / f"{which}.log")
            raise Unavailable(
                f"{which} did not start ({joined} of {count} nodes joined): {said}. "
                "If this machine was busy or short of memory, the same command may succeed later"
            )
        time.sleep(LOOK_S)


def _joined(made: Running) -> int:
    """How many nodes the dashboard knows as alive; 0 while it does not answer."""
    headers = {"Authorization": f"Bearer {made.token.read_text()}"}
    try:
        answer = requests.get(f"{made.dashboard}/nodes?view=summary", headers=headers, timeout=10)
        summary: list[dict[str, Any]] = answer.json()["data"]["summary"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return sum(node.get("raylet", {}).get("state") == "ALIVE" for node in summary)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now.

    Raises:
        MachineError: there are too few.
    """
    out: list[int] = []
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            out.append(port)
        if len(out) == count:
            return out
    raise MachineError(f"no {count} free ports were found on {HOST} between {PORTS.start} and {PORTS.stop}")


def _last_words(path: Path) -> str:
    """The last lines of a log as one, without the codes of colours; of a traceback the error alone."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", path.read_text(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    failed = any(line.startswith("Traceback") for line in lines)
    return " / ".join(lines[-1:] if failed else lines[-WORDS:]).rstrip(".") or "it said nothing"
