"""python -m jobs.deploy kuberay|slurm deploy.job=NAME [--config FILE] [key=value ...] [--dry-run]

Prints what starts a job on a cluster of its own, made from the job's settings:

kuberay  a RayJob for KubeRay 1.6 or newer: python -m jobs.deploy kuberay ... deploy.image=IMAGE | kubectl apply -f -
slurm    a batch script: python -m jobs.deploy slurm ... > label.sbatch; sbatch label.sbatch

Nodes follow from cluster.teachers, teacher_cpus and teacher_gpus, for training from cluster.workers, worker_cpus and
worker_gpus, for jobs with actors of their own from detect.actors and the like. deploy.* names what the cluster calls
its things. Paths must be absolute and seen by all nodes, or s3:// URIs; pods see the folders that deploy.claims mounts.
Credentials are not among the settings: they come from a role (deploy.service_account) or a secret of the cluster
(deploy.env_secret).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import yaml

from cluster.deployment import kuberay, nodes, slurm
from hojoint.config import Config, DeployConfig
from hojoint.errors import InputError
from jobs import command, own_data, submit

WORDS = ("kuberay", "slurm")
WITHOUT_WORK = {"status", "report", "gc"}
"""Jobs that a running cluster takes, and that give one of its own nothing to do: a few files are read or removed."""
OF_EACH_NODE = "cluster.cache"
"""The one place that a node needs for itself alone, so it may lie in a pod's own /tmp."""


def job(config: Config, dry_run: bool, word: str) -> None:
    """Print the manifest or the script; in a dry run, the nodes it asks for."""
    name = command.need(config.deploy.job, "deploy.job", "pseudo_label")
    if name not in (known := submit.sendable_jobs()):
        raise InputError(f"deploy.job={name} is not a job that runs on a cluster; expected one of {', '.join(known)}")
    refuse_idle(config, name, word)
    command.refuse_missing(config, name)
    submit.refuse_relative_paths(config)
    command.refuse_missing_data(config, name)
    if word == "kuberay":
        refuse_unmounted(config)
    if word == "kuberay" or nodes.nodes_of(config, name).most > 1:
        own_data.refuse_hidden_world(config, name)
    words = ["python", "-m", f"jobs.{name}", *submit.arguments(config.model_copy(update={"deploy": DeployConfig()}))]
    if dry_run:
        asked = nodes.nodes_of(config, name)
        print(f"would ask for {asked.least} to {asked.most} nodes of {asked.cpus} CPUs and {asked.gpus} GPUs")
        print(shlex.join(words))
        return
    if word == "kuberay":
        manifest = kuberay.rayjob(config, name, words, ray_version=metadata.version("ray"))
        print(yaml.safe_dump(manifest, sort_keys=False, width=1000), end="")
    else:
        print(slurm.script(config, name, words), end="")


def refuse_idle(config: Config, name: str, word: str) -> None:
    """InputError for a job that would leave the nodes idle which it asks for."""
    if name in WITHOUT_WORK:
        raise InputError(
            f"deploy.job={name} gives a cluster no work; run python -m jobs.{name} where you are, or send it to a "
            "cluster that runs with jobs.submit"
        )
    if name == "calibrate" and word == "kuberay" and config.calibrate.predictions is not None:
        raise InputError(
            "deploy.job=calibrate with calibrate.predictions judges labels that are made, on the head of the RayJob's "
            "cluster, and its nodes would be idle; run python -m jobs.calibrate where you are, or send it to a cluster "
            "that runs with jobs.submit"
        )


def refuse_unmounted(config: Config) -> None:
    """InputError for a local path that no pod would find."""
    deploy = config.deploy
    seen = [Path(folder) for folder in (*deploy.claims, *deploy.image_folders)]
    for name in command.PATH_SETTINGS:
        value = command.local_path_of(config, name)
        there = [*seen, Path("/tmp")] if name == OF_EACH_NODE else seen
        if value is not None and not any(Path(value).is_relative_to(folder) for folder in there):
            raise InputError(
                f"{name}={value} lies in no folder that the pods see. Give an s3:// URI, mount a volume with "
                f"deploy.claims={{FOLDER: NAME_OF_A_PERSISTENTVOLUMECLAIM}}, or name a folder of the image in "
                "deploy.image_folders"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run_word(job, __doc__, argv, words=WORDS)


if __name__ == "__main__":
    sys.exit(main())
