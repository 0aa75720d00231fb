"""Settings of sending a job to a cluster, of a cluster on this machine, and of what somebody's cluster offers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from hojoint.settings_method import Count, Settings


class SubmitConfig(Settings):
    """jobs.submit, jobs.stop and jobs.list."""

    job: str | None = None
    """Which job is sent to the cluster, stopped or listed."""
    id: str | None = None
    """Which sent job jobs.stop ends, by its id."""
    detach: bool = False
    """jobs.submit returns when the job is sent, and does not follow it."""


class ClusterUpConfig(Settings):
    """jobs.cluster_up: a cluster of several nodes on this machine."""

    nodes: Count = 3
    """The head among them."""
    cpus: Count = 2
    """CPUs that each node offers; together they may exceed the machine's."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs that each node offers; Ray counts them, none has to exist."""
    object_store_mb: Annotated[int, Field(ge=80)] = 150
    """Object store of each node, MB."""
    port: Annotated[int, Field(ge=1024, le=65535)] = 8265
    """Of the dashboard, on 127.0.0.1."""


class DeployConfig(Settings):
    """jobs.deploy: what somebody's cluster calls things, and what one of its nodes has."""

    job: str | None = None
    """Which job is started there; its settings are the others on the command line."""
    image: str | None = None
    """Container image that examples/Dockerfile builds, as the cluster's registry names it."""
    namespace: str | None = None
    """Of Kubernetes; None leaves it to kubectl."""
    service_account: str | None = None
    """Of Kubernetes; its role may read the videos and write the output."""
    token_secret: str | None = None
    """Secret of Kubernetes with the key auth_token; None lets KubeRay make one."""
    env_secret: str | None = None
    """Secret of Kubernetes whose keys become environment variables, as for AWS_ENDPOINT_URL; never named keys here."""
    claims: dict[str, str] = Field(default_factory=dict)
    """Volumes that all pods of Kubernetes mount: folder -> PersistentVolumeClaim, as in {"/data": "videos"}."""
    image_folders: tuple[str, ...] = ()
    """Folders that the image holds, as for MANO's file; other local paths are refused where no claim mounts them."""
    gpu_node_labels: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that GPU pods go to, as in {"cloud.google.com/gke-spot": "true"}."""
    partition: str | None = None
    """Of Slurm."""
    hours: Count = 24
    """Time limit of a Slurm job; it goes back into the queue and resumes."""
    node_gpus: Count = 1
    """GPUs of one node; used where the job's processes take GPUs."""
    node_memory_gb: Count = 32
    shm_gb: Count = 8
    """Shared memory of a pod, for Ray's object store; part of its memory."""
    disk_gb: Count = 50
    """Temporary files of a pod: videos in flight, copies of labelled sets."""

    @model_validator(mode="after")
    def _folders_are_absolute(self) -> DeployConfig:
        for name, folders in (("claims", tuple(self.claims)), ("image_folders", self.image_folders)):
            for folder in folders:
                if not folder.startswith("/") or folder.rstrip("/") in ("", "/tmp", "/dev/shm"):
                    raise ValueError(
                        f"deploy.{name} names {folder!r}; expected an absolute folder other than / and the pods' own "
                        "/tmp and /dev/shm"
                    )
        return self

    @model_validator(mode="after")
    def _shared_memory_fits(self) -> DeployConfig:
        if self.shm_gb >= self.node_memory_gb:
            raise ValueError(
                f"deploy.shm_gb={self.shm_gb} is part of deploy.node_memory_gb={self.node_memory_gb}; give less"
            )
        return self
