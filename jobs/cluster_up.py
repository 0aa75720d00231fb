"""python -m jobs.cluster_up [nodes=3] [cpus=2] [gpus=0] [port=8265] [--dry-run], or jobs.cluster_up kill, or stop

Starts a cluster of several nodes on this machine, with dashboard and token, to try jobs.submit and all that follows; it
prints what to export and how to submit. Ctrl-C, or ``stop`` in another terminal, stops it and removes what it made.
``kill`` kills its last node at once, as a machine that fails. The nodes get this terminal's environment, so export
credentials for object storage first. Short keys stand for those of the group cluster_up: nodes= is cluster_up.nodes=.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Sequence

from cluster import ending, local_cluster
from hojoint.config import ClusterUpConfig, Config
from hojoint.errors import InputError
from jobs import command

WORDS = ("start", "stop", "kill")
LOOK_S = 1.0
DASHBOARD = ("aiohttp", "grpc", "opencensus")  # of Ray's extra 'default', which our extra 'cluster' brings


def job(config: Config, dry_run: bool, word: str) -> None:
    """Start a cluster and hold it until it is told to stop; or stop the one that runs, or kill one of its nodes."""
    folder = local_cluster.usual_folder()
    if word == "start":
        _hold(config.cluster_up, dry_run)
        return
    if not folder.exists() and not dry_run:
        raise InputError(f"no cluster of jobs.cluster_up is there ({folder} does not exist)")
    if dry_run:
        print(f"would {word}: {len(local_cluster.processes(folder))} processes of {folder}")
    elif word == "stop":
        print(f"stopped  {local_cluster.stop(folder)} processes, and removed {folder}")
    else:
        lost = local_cluster.lose_node(folder)
        if lost is None:
            raise InputError("only the head is left, and without it there is no cluster; see jobs.cluster_up stop")
        print(f"killed   {local_cluster.name_of(lost)}")


def _hold(config: ClusterUpConfig, dry_run: bool) -> None:
    size = f"{config.nodes} nodes of {config.cpus} CPU, {config.gpus} GPU"
    if dry_run:
        print(f"would start {size}, dashboard on 127.0.0.1:{config.port}, in {local_cluster.usual_folder()}")
        return
    if absent := [name for name in DASHBOARD if importlib.util.find_spec(name) is None]:
        raise InputError(
            f"a cluster needs Ray's dashboard, and {', '.join(absent)} is not installed: pip install -e '.[cluster]'"
        )
    print(f"starting {size} on this machine; a minute or so", flush=True)
    folder = local_cluster.usual_folder()
    usual_end = contextlib.suppress(KeyboardInterrupt, ending.Ended)
    with usual_end, local_cluster.running(config, folder) as made:
        print(_manual(made), flush=True)
        _watch(made)
    print(f"stopped  all processes of the cluster have ended, and {folder} is removed")


def _watch(made: local_cluster.Running) -> None:
    """Return when the head is gone; tell of other nodes that are lost."""
    before = made.alive()
    while 1 in before:
        time.sleep(LOOK_S)
        now = made.alive()
        for number in sorted(set(before) - set(now) - {1}):
            print(f"lost     {local_cluster.name_of(number)}; {len(now)} nodes are left", flush=True)
        before = now


def _manual(made: local_cluster.Running) -> str:
    """What to do with it."""
    address = f"cluster.address={made.dashboard}"
    names = ", ".join(local_cluster.name_of(number) for number in made.nodes)
    return f"""\
nodes     {names}
dashboard {made.dashboard} (it asks for the token: cat {made.token})
logs      {made.folder}/session_latest/logs

In another terminal, in this folder:
  export RAY_AUTH_TOKEN_PATH={made.token}
  python -m jobs.doctor cluster {address}
  python -m jobs.submit submit.job=pipeline {address} output=/tmp/on-a-cluster
  python -m jobs.list {address}
  python -m jobs.cluster_up kill
To run a job's driver in the terminal itself:
  export RAY_AUTH_MODE=token
  python -m jobs.pseudo_label cluster.address={made.gcs} ...
Ctrl-C here, or in another terminal python -m jobs.cluster_up stop, ends it and removes {made.folder}.
"""


def named(argv: Sequence[str]) -> list[str]:
    """The command line with ``start`` where no word is given, and the full names of the short keys."""
    words = [f"cluster_up.{word}" if word.partition("=")[0] in ClusterUpConfig.model_fields else word for word in argv]
    given = any("=" not in word and not word.startswith("-") for word in words[:1])
    return words if given else ["start", *words]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run_word(job, __doc__, named(sys.argv[1:] if argv is None else argv), WORDS)


if __name__ == "__main__":
    sys.exit(main())
