"""A job as a Slurm script: one Ray cluster over the nodes of an allocation, the job on its first node.

``ray symmetric-run`` starts Ray on every node, runs the job and stops Ray. A preempted or timed-out job, and a number
of times one that ends with ``AGAIN`` or without an exit code, goes back into the queue: it resumes from what is
committed. One that Slurm itself ends, as after scancel, does not.

The job notes its exit code in a file, because nothing else tells it. On several nodes the first task that fails makes
srun end the others by a signal, and srun then tells 143. ``symmetric-run`` ends with 0 where Ray does not start.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from cluster.deployment.kuberay import AGAIN, TRIES
from cluster.deployment.nodes import SPARE_CPUS, Nodes, nodes_of
from hojoint.config import Config

PORT = 6379
WARNING_S = 120  # before the time limit ends the job
NODES_S = 600  # for all nodes to start Ray; Ray's own 30 s are short for a node that reads it from a shared folder
RESTARTS = 5
"""A job that leaves no exit code is queued again while Slurm has restarted it less often: the fault may stay."""
NOTED = '"$@"; code=$?; echo "$code" > "$HOJOINT_EXIT_CODE"; exit "$code"'
"""Runs the job, on the first node alone, and notes its exit code."""


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
        f"--nodes={nodes.most if nodes.least == nodes.most else f'{nodes.least}-{nodes.most}'}",
        "--ntasks-per-node=1",
        "--exclusive",  # Ray is stopped on every node at the end, whoever started it
        f"--cpus-per-task={nodes.cpus}",
        *([f"--gpus-per-node={nodes.gpus}"] if nodes.gpus else []),
        f"--mem={deploy.node_memory_gb}G",
        *([f"--partition={deploy.partition}"] if deploy.partition is not None else []),
        f"--time={deploy.hours}:00:00",
        "--requeue",
        "--open-mode=append",
        f"--signal=B:USR1@{WARNING_S}",  # TERM tells of a preemption, or of scancel
        "--output=hojoint-%j.log",
    ]


def _body(nodes: Nodes, command: Sequence[str]) -> list[str]:
    return [
        "# The same command resumes: from committed units, and from training's last checkpoint.",
        "set -u",
        f"TRIES={TRIES}  # of this job that may end with exit code {AGAIN}",
        'TRIED="$SLURM_SUBMIT_DIR/.tried-$SLURM_JOB_ID"',
        '[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || rm -f "$TRIED"  # of an older job with this number',
        *_again(),
        "",
        "# One token for the nodes of this job, readable by its user alone, in a folder that all nodes see.",
        'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$SLURM_SUBMIT_DIR/.ray-token-$SLURM_JOB_ID"',
        'python -c "import secrets; print(secrets.token_hex(32))" | (umask 077; cat > "$RAY_AUTH_TOKEN_PATH")',
        "# The job's own exit code: srun's is another one where several nodes end, or where Ray does not start.",
        'export HOJOINT_EXIT_CODE="$SLURM_SUBMIT_DIR/.exit-code-$SLURM_JOB_ID"',
        'rm -f "$HOJOINT_EXIT_CODE"',
        'trap \'rm -f "$RAY_AUTH_TOKEN_PATH" "$HOJOINT_EXIT_CODE"\' EXIT',
        f"export RAY_USAGE_STATS_ENABLED=0 RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT={NODES_S}",
        'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # from Slurm 22.05 on, srun does not take it from the job',
        'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        # Of a range of nodes, SLURM_NTASKS may be that of the smallest number.
        'srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --kill-on-bad-exit=1 \\',
        f'    ray symmetric-run --address "$head:{PORT}" \\',
        f'    --min-nodes "$SLURM_JOB_NUM_NODES" '
        f"--num-cpus={nodes.cpus - SPARE_CPUS} {f'--num-gpus={nodes.gpus} ' if nodes.gpus else ''}-- \\",
        f"    {shlex.join(['bash', '-c', NOTED, 'job', *command])} &",
        "wait $!  # in the background: only then does bash see a signal while it waits",
        "told=$?",
        *_ending(),
    ]


def _again() -> list[str]:
    """The way back into the queue, and the signals that lead there."""
    return [
        "again() {",
        "    trap '' USR1 TERM  # Slurm ends this script while it requeues the job",
        "    # A job that Slurm itself ends, as after scancel, is not to come back; what it requeues comes anyway.",
        '    if scontrol show job "$SLURM_JOB_ID" | grep -Eq "JobState=(COMPLETING|CANCELLED)"; then',
        '        rm -f "$TRIED"',
        "        exit 1",
        "    fi",
        '    echo "back into the queue: $1"',
        '    scontrol requeue "$SLURM_JOB_ID" && exit 0',
        '    echo "not requeued: Slurm refuses it (see above); sbatch this script again: the job resumes"',
        f"    exit {AGAIN}",
        "}",
        "trap \"again 'the time limit is near'\" USR1",
        "trap \"again 'the job is preempted'\" TERM",
    ]


def _ending() -> list[str]:
    """The script's end, by the exit code that the job has noted."""
    return [
        'code=$(cat "$HOJOINT_EXIT_CODE" 2> /dev/null)',
        f'if [ "$code" = {AGAIN} ]; then',
        '    tried=$(($(cat "$TRIED" 2> /dev/null) + 1))',
        '    echo "$tried" > "$TRIED"',
        '    if [ "$tried" -lt "$TRIES" ]; then again "the job asks for another try (exit code '
        f'{AGAIN}, $tried of $TRIES)"; fi',
        f'    echo "exit code {AGAIN}, $tried of $TRIES: look at the lines above, mend the cause, then sbatch this '
        'script again: the job resumes"',
        "fi",
        'if [ -n "$code" ]; then',
        '    rm -f "$TRIED"',
        '    exit "$code"',
        "fi",
        'none="the job left no exit code: Ray did not start, or a node was lost (srun ended with $told)"',
        f'if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {RESTARTS} ]; then again "$none"; fi',
        'echo "$none. Slurm has restarted it $SLURM_RESTART_COUNT times; look at the lines above, then sbatch again"',
        "exit 1",
    ]
