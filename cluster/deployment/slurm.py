"""A job as a Slurm script: one Ray cluster over the nodes of an allocation, the job on its first node.

``ray symmetric-run`` starts Ray on every node, runs the job and stops Ray. A preempted or timed-out job, and one that
ends with ``AGAIN``, goes back into the queue: it resumes from what is committed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from cluster.deployment.kuberay import AGAIN
from cluster.deployment.nodes import SPARE_CPUS, Nodes, nodes_of
from hojoint.config import Config

PORT = 6379
WARNING_S = 120  # before the time limit ends the job


def script(config: Config, job: str, command: Sequence[str]) -> str:
    """The script, for ``sbatch``.

    Args:
        config: the job's settings; ``deploy`` names the partition and what a node has.
        job: name of the job, as in pseudo_label.
        command: the words of its command line, with ``cluster.address=auto``.

    Raises:
        InputError: one process does not fit on a node.
    """
    nodes = nodes_of(config, job)
    options = [f"#SBATCH {option}" for option in _asked(config, job, nodes)]
    return "\n".join(["#!/bin/bash", *options, *_body(nodes, command), ""])


def _asked(config: Config, job: str, nodes: Nodes) -> list[str]:
    deploy = config.deploy
    return [
        f"--job-name=hojoint-{job.replace('_', '-')}",
        f"--nodes={nodes.most}",
        "--ntasks-per-node=1",
        "--exclusive",  # Ray is stopped on every node at the end, whoever started it
        f"--cpus-per-task={nodes.cpus}",
        *([f"--gpus-per-node={nodes.gpus}"] if nodes.gpus else []),
        f"--mem={deploy.node_memory_gb}G",
        *([f"--partition={deploy.partition}"] if deploy.partition is not None else []),
        f"--time={deploy.hours}:00:00",
        "--requeue",
        "--open-mode=append",
        f"--signal=B:TERM@{WARNING_S}",
        "--output=hojoint-%j.log",
    ]


def _body(nodes: Nodes, command: Sequence[str]) -> list[str]:
    return [
        "# The same command resumes: from committed units, and from training's last checkpoint.",
        "set -u",
        'again() { echo "back into the queue: $1"; scontrol requeue "$SLURM_JOB_ID"; exit 0; }',
        "trap \"again 'the time limit is near, or the job is preempted'\" TERM",
        "",
        "# One token for the nodes of this job, readable by its user alone, in a folder that all nodes see.",
        'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$SLURM_SUBMIT_DIR/.ray-token-$SLURM_JOB_ID"',
        'python -c "import secrets; print(secrets.token_hex(32))" | (umask 077; cat > "$RAY_AUTH_TOKEN_PATH")',
        "trap 'rm -f \"$RAY_AUTH_TOKEN_PATH\"' EXIT",
        "export RAY_USAGE_STATS_ENABLED=0",
        'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        f'srun --kill-on-bad-exit=1 ray symmetric-run --address "$head:{PORT}" \\',
        f'    --min-nodes "$SLURM_JOB_NUM_NODES" '
        f"--num-cpus={nodes.cpus - SPARE_CPUS} {f'--num-gpus={nodes.gpus} ' if nodes.gpus else ''}-- \\",
        f"    {shlex.join(command)} &",
        "wait $!  # in the background: only then does bash see a signal while it waits",
        "code=$?",
        f'[ "$code" -ne {AGAIN} ] || again "the job asks for another try (exit code {AGAIN})"',
        'exit "$code"',
    ]
