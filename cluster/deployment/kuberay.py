"""A job as a RayJob for KubeRay: a cluster of its own that grows with the job, asks for a token, and goes when it ends.

A head without work, and one group of workers, with GPUs where the job uses them. Labels and checkpoints lie in object
storage, so a preempted pod costs time alone, and the same job resumes. Not here: what the job does.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.deployment.nodes import SPARE_CPUS, Nodes, nodes_of
from hojoint.config import Config, digest
from hojoint.errors import InputError

AGAIN = 75
"""Exit code of a job that should be tried again on the same cluster (a store that cannot be reached)."""
TRIES = 20
"""That may end with ``AGAIN``: whether the job got further in them is not seen, and a mistyped endpoint stays so."""
AGAIN_AFTER_S, LONGEST_PAUSE_S = 60, 600  # the pause doubles
NEW_CLUSTERS = 0
"""KubeRay counts every failed job alike. After 1 and 2 the same command fails again, on any cluster; 75 stays here."""
SUBMISSIONS = 30
"""Tries of the pod that sends the job. Each broken stream of the log costs one, and so does each look for a lost head;
the job is sent to the new one. Kubernetes waits up to six minutes between two tries: a head that dies each time costs
three hours."""
KEEP_S = 600  # a finished cluster stays so long, for a look at its dashboard
TERMINATION_S = 60  # a preempted pod's processes have so long to end
HEAD_CPUS, HEAD_MEMORY_GB = 2, 8
OF_SHM, OF_HEAD = 0.9, 0.3
"""Largest share of /dev/shm, and of the head's memory, that Ray's object store gets. Where Ray is not told, it takes
0.3 of a node's memory, and lays all objects on disk if /dev/shm has less free than that."""
METRICS_PORT = 8080
USER = 1000


def rayjob(config: Config, job: str, command: Sequence[str], ray_version: str) -> dict[str, Any]:
    """The manifest, as YAML's mappings.

    Args:
        config: the job's settings; ``deploy`` names the image and what a node has.
        job: name of the job, as in pseudo_label.
        command: the words of its command line.
        ray_version: of the image.

    Raises:
        InputError: no image is named, or one process does not fit on a node.
    """
    deploy = config.deploy
    if deploy.image is None:
        raise InputError("deploy.image is needed: the image that examples/Dockerfile builds, as your registry names it")
    auth: dict[str, Any] = {"mode": "token"}
    if deploy.token_secret is not None:
        auth["secretName"] = deploy.token_secret
    spec: dict[str, Any] = {
        "entrypoint": entrypoint(command),
        "backoffLimit": NEW_CLUSTERS,
        "submitterConfig": {"backoffLimit": SUBMISSIONS},
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEEP_S,
        "rayClusterSpec": {
            "rayVersion": ray_version,
            "authOptions": auth,
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {"idleTimeoutSeconds": 120, "upscalingMode": "Default"},
            "headGroupSpec": _head(config),
            "workerGroupSpecs": [_workers(config, nodes_of(config, job))],
        },
    }
    metadata: dict[str, Any] = {
        "name": name_of(job, command, spec["rayClusterSpec"]),
        "labels": {"app.kubernetes.io/name": "hojoint"},
    }
    if deploy.namespace is not None:
        metadata["namespace"] = deploy.namespace
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}


def name_of(job: str, command: Sequence[str], cluster: Mapping[str, Any]) -> str:
    """A name that no other settings have: with a name in common, the second manifest would change the first job."""
    return f"hojoint-{job.replace('_', '-')}-{digest(list(command), cluster)[:8]}"


def entrypoint(command: Sequence[str]) -> str:
    """The command, given again on this cluster while it ends with ``AGAIN``, at most ``TRIES`` times."""
    loop = (
        f"tried=0; pause={AGAIN_AFTER_S}; while :; do {shlex.join(command)}; code=$?; tried=$((tried + 1)); "
        f'[ "$code" -eq {AGAIN} ] || exit "$code"; echo "exit code {AGAIN}, $tried of {TRIES}"; '
        f'[ "$tried" -lt {TRIES} ] || {{ echo "mend the cause, then kubectl replace --force this RayJob, which '
        f'resumes"; exit {AGAIN}; }}; sleep "$pause"; pause=$((pause * 2)); '
        f'[ "$pause" -le {LONGEST_PAUSE_S} ] || pause={LONGEST_PAUSE_S}; done'
    )
    return shlex.join(["sh", "-c", loop])


def _head(config: Config) -> dict[str, Any]:
    """The driver, the job server and the GCS; no actor runs here."""
    ports = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
        {"name": "metrics", "containerPort": METRICS_PORT},
    ]
    resources = {"cpu": str(HEAD_CPUS), "memory": f"{HEAD_MEMORY_GB}Gi"}
    container = _container(config, "ray-head", resources) | {"ports": ports}
    params = {
        "num-cpus": "0",
        "object-store-memory": _bytes(min(OF_SHM * config.deploy.shm_gb, OF_HEAD * HEAD_MEMORY_GB)),
        "dashboard-host": "0.0.0.0",
        "metrics-export-port": str(METRICS_PORT),
    }
    return {"rayStartParams": params, "template": _pod(config, container, gpus=0)}


def _workers(config: Config, nodes: Nodes) -> dict[str, Any]:
    resources = {"cpu": str(nodes.cpus), "memory": f"{config.deploy.node_memory_gb}Gi"}
    if nodes.gpus:
        resources["nvidia.com/gpu"] = str(nodes.gpus)
    ports = [{"name": "metrics", "containerPort": METRICS_PORT}]
    container = _container(config, "ray-worker", resources) | {"ports": ports}
    return {
        "groupName": "gpu" if nodes.gpus else "cpu",
        "replicas": nodes.least,
        "minReplicas": nodes.least,
        "maxReplicas": nodes.most,
        "rayStartParams": {
            "num-cpus": str(nodes.cpus - SPARE_CPUS),
            "object-store-memory": _bytes(OF_SHM * config.deploy.shm_gb),
            "metrics-export-port": str(METRICS_PORT),
        },
        "template": _pod(config, container, gpus=nodes.gpus),
    }


def _container(config: Config, name: str, resources: dict[str, str]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": name,
        "image": config.deploy.image,
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        "resources": {"limits": dict(resources), "requests": dict(resources)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # Ray's object store lives in shared memory; a pod has 64 MB of it otherwise.
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "tmp", "mountPath": "/tmp"},
            *({"name": _volume(at), "mountPath": folder} for at, folder in enumerate(config.deploy.claims)),
        ],
    }
    if config.deploy.env_secret is not None:
        container["envFrom"] = [{"secretRef": {"name": config.deploy.env_secret}}]
    return container


def _pod(config: Config, container: dict[str, Any], *, gpus: int) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "fsGroup": USER},
        "terminationGracePeriodSeconds": TERMINATION_S,
        "volumes": [
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{config.deploy.shm_gb}Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": f"{config.deploy.disk_gb}Gi"}},
            *(
                {"name": _volume(at), "persistentVolumeClaim": {"claimName": claim}}
                for at, claim in enumerate(config.deploy.claims.values())
            ),
        ],
    }
    if config.deploy.service_account is not None:
        spec["serviceAccountName"] = config.deploy.service_account
    if gpus:
        if config.deploy.gpu_node_labels:
            spec["nodeSelector"] = dict(config.deploy.gpu_node_labels)
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT)}
    return {"metadata": {"annotations": annotations}, "spec": spec}


def _bytes(gb: float) -> str:
    """As ``ray start`` takes it; pods count GB of 2**30 bytes."""
    return str(int(gb * 2**30))


def _volume(number: int) -> str:
    return f"claim-{number}"
