"""What jobs.deploy prints: valid for Kubernetes' own models, for a shell, and as large as the job asks."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import kubernetes.client.models as kubernetes_models
import pytest
import yaml

from cluster import node_checks
from cluster.deployment import kuberay, nodes, slurm
from hojoint import config as settings
from hojoint.errors import InputError
from jobs import command, deploy, submit

ROOT = Path(__file__).resolve().parent.parent
ARGUMENTS = [
    "deploy.job=pseudo_label", "deploy.image=registry.example/hojoint:1", "cluster.teachers=[1,8]",
    "cluster.teacher_cpus=4", "cluster.teacher_gpus=1", "videos.root=s3://bucket/videos",
    "videos.boxes=s3://bucket/boxes", "teacher.checkpoint=s3://bucket/checkpoint.pt", "output=s3://bucket/labels",
]  # fmt: skip
FIELDS = {  # of ray.io/v1 as published with KubeRay 1.6, of what we use and its neighbours
    "RayJobSpec": {
        "entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
        "rayClusterSpec", "activeDeadlineSeconds", "runtimeEnvYAML", "metadata", "suspend", "submitterPodTemplate",
        "submitterConfig", "clusterSelector", "jobId", "entrypointNumCpus", "entrypointNumGpus", "entrypointResources",
        "managedBy", "deletionStrategy",
    },
    "RayClusterSpec": {
        "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec",
        "workerGroupSpecs", "headServiceAnnotations", "suspend", "gcsFaultToleranceOptions", "managedBy",
    },
    "SubmitterConfig": {"backoffLimit"},
    "AuthOptions": {"mode", "secretName", "enableK8sTokenAuth"},
    "AutoscalerOptions": {
        "resources", "image", "imagePullPolicy", "env", "envFrom", "volumeMounts", "securityContext",
        "idleTimeoutSeconds", "upscalingMode", "version",
    },
    "HeadGroupSpec": {"serviceType", "headService", "enableIngress", "rayStartParams", "template"},
    "WorkerGroupSpec": {
        "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams", "template",
        "scaleStrategy", "idleTimeoutSeconds", "suspend",
    },
}  # fmt: skip


def config_of(*overrides):
    return settings.load(command.DEFAULT_CONFIG, [*ARGUMENTS, *overrides])


def manifest(*overrides):
    return kuberay.rayjob(config_of(*overrides), "pseudo_label", ["python", "-m", "jobs.x", "a=it's"], "2.60.0")


def check_kind(value, kind):
    """The value has only fields of this kind in Kubernetes' published models, each of its own kind."""
    if kind.lower().startswith("list["):
        assert isinstance(value, list)
        for item in value:
            check_kind(item, kind[5:-1])
    elif kind.lower().startswith("dict"):
        assert all(isinstance(name, str) and isinstance(item, str) for name, item in value.items())
    elif hasattr(kubernetes_models, kind):
        model = getattr(kubernetes_models, kind)
        names = {json_name: name for name, json_name in model.attribute_map.items()}
        assert isinstance(value, dict)
        assert value.keys() <= names.keys(), f"{kind} has no {sorted(value.keys() - names.keys())}"
        for json_name, item in value.items():
            check_kind(item, model.openapi_types[names[json_name]])
    else:
        assert isinstance(value, {"str": str, "int": int, "bool": bool}[kind])


def test_a_rayjob_has_only_known_fields():
    job = manifest("deploy.service_account=hojoint", "deploy.env_secret=s3", 'deploy.gpu_node_labels={"spot":"true"}')
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert spec.keys() <= FIELDS["RayJobSpec"]
    assert cluster.keys() <= FIELDS["RayClusterSpec"]
    assert spec["submitterConfig"].keys() <= FIELDS["SubmitterConfig"]
    assert cluster["authOptions"].keys() <= FIELDS["AuthOptions"]
    assert cluster["autoscalerOptions"].keys() <= FIELDS["AutoscalerOptions"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head.keys() <= FIELDS["HeadGroupSpec"]
    assert workers.keys() <= FIELDS["WorkerGroupSpec"]
    for group in (head, workers):
        check_kind(group["template"], "V1PodTemplateSpec")
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_each_output_has_a_rayjob_of_its_own():
    def name_of(job, output):
        words = ["python", "-m", f"jobs.{job}", f"output={output}"]
        return kuberay.rayjob(config_of(), job, words, "2.60.0")["metadata"]["name"]

    first = name_of("pseudo_label", "s3://bucket/one")
    assert first == name_of("pseudo_label", "s3://bucket/one")  # the same command finds its job
    assert first != name_of("pseudo_label", "s3://bucket/two")
    assert manifest()["metadata"]["name"] != manifest("cluster.teachers=[2,8]")["metadata"]["name"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kuberay, "TRIES", 5)  # how often it is tried makes no other job
        assert first == name_of("pseudo_label", "s3://bucket/one")
    for job in submit.sendable_jobs():
        assert re.fullmatch(r"hojoint-[a-z-]+-[0-9a-f]{8}", name_of(job, "s3://bucket/one"))
        assert len(name_of(job, "s3://bucket/one")) <= 47  # KubeRay derives further names from it


def test_wrong_input_costs_no_further_cluster():
    """KubeRay would start one after any exit code but 0; a lost head is the affair of the pod that sends the job."""
    spec = manifest()["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["submitterConfig"] == {"backoffLimit": kuberay.SUBMISSIONS}
    longest_wait_min = 6  # between the pods of a Kubernetes Job
    hours = kuberay.SUBMISSIONS * longest_wait_min / 60
    assert 2 < hours < 6  # a stream that breaks now and then ends no run, and a head that dies again and again does


def test_an_unknown_field_would_be_found():
    pod = manifest()["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    pod["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(AssertionError, match="V1Container has no"):
        check_kind(pod, "V1PodTemplateSpec")


def test_pods_have_a_token_shared_memory_and_no_rights():
    cluster = manifest("deploy.token_secret=ray-token", "deploy.shm_gb=12")["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    assert manifest()["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "12Gi"}} in pod["volumes"]
        (container,) = pod["containers"]
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"] == container["resources"]["requests"]


@pytest.mark.parametrize("overrides", [[], ["deploy.shm_gb=2"], ["deploy.shm_gb=31"], ["deploy.node_memory_gb=256"]])
def test_rays_objects_lie_in_the_shared_memory_of_a_pod(overrides):
    """Ray puts all of them on disk where /dev/shm has less free than the object store asks for."""
    cluster = manifest(*overrides)["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod, store = group["template"]["spec"], int(group["rayStartParams"]["object-store-memory"])
        (shm,) = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "shm"]
        memory = pod["containers"][0]["resources"]["limits"]["memory"]
        shm_bytes, memory_bytes = (int(text.removesuffix("Gi")) * 2**30 for text in (shm, memory))
        assert node_checks.shared_memory(min(shm_bytes, memory_bytes), store).state == node_checks.OK
        assert store < 0.9 * memory_bytes  # Ray refuses a node whose memory it takes up
        assert store > 10**9


def test_no_work_runs_on_the_head_and_gpu_pods_go_to_gpu_nodes():
    cluster = manifest('deploy.gpu_node_labels={"spot":"true"}')["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["groupName"] == "gpu"
    pod = workers["template"]["spec"]
    assert pod["nodeSelector"] == {"spot": "true"}
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (plain,) = manifest("cluster.teacher_gpus=0")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert plain["groupName"] == "cpu"
    assert "nvidia.com/gpu" not in plain["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert "tolerations" not in plain["template"]["spec"]


@pytest.mark.parametrize(
    ("codes", "ends_with"),
    [([75, 75, 3], 3), ([75] * kuberay.TRIES, 75), ([*[75] * (kuberay.TRIES - 1), 0], 0)],
)
def test_the_entrypoint_tries_again_for_exit_code_75_alone(tmp_path, codes, ends_with):
    """The real loop in a real shell, without its pauses; they double from a minute up to ten."""
    left = tmp_path / "left"
    left.write_text(" ".join(map(str, [*codes, 99])))
    body = f'set -- $(cat {left}); echo "$1" >> {tmp_path}/seen; code=$1; shift; echo "$*" > {left}; exit "$code"'
    line = kuberay.entrypoint(["sh", "-c", body]).replace('sleep "$pause"', f'echo "$pause" >> {tmp_path}/pauses')
    ended = subprocess.run(line, shell=True, check=False, capture_output=True, text=True)
    assert ended.returncode == ends_with
    assert ("mend the cause, then kubectl replace" in ended.stdout) == (ends_with == 75)
    assert (tmp_path / "seen").read_text().split() == list(map(str, codes))
    pauses = list(map(int, (tmp_path / "pauses").read_text().split()))
    assert pauses == [60, 120, 240, 480, *[600] * 20][: len(codes) - 1]


def test_the_number_of_nodes_follows_the_settings():
    def asked(job, *overrides):
        return nodes.nodes_of(config_of(*overrides), job)

    assert asked("pseudo_label") == nodes.Nodes(least=1, most=8, cpus=5, gpus=1)
    assert asked("pseudo_label", "cluster.teachers=[2,16]") == nodes.Nodes(least=2, most=16, cpus=5, gpus=1)
    assert asked("pseudo_label", "deploy.node_gpus=4") == nodes.Nodes(least=1, most=2, cpus=17, gpus=4)
    assert asked("pseudo_label", "cluster.teacher_gpus=0.25") == nodes.Nodes(least=1, most=2, cpus=17, gpus=1)
    assert asked("pseudo_label", "cluster.teacher_gpus=0") == nodes.Nodes(least=1, most=8, cpus=5, gpus=0)
    training = ["cluster.workers=[2,4]", "cluster.worker_gpus=1", "cluster.worker_cpus=8"]
    assert asked("retrain", *training) == nodes.Nodes(least=2, most=4, cpus=9, gpus=1)
    assert asked("pipeline", *training) == nodes.Nodes(least=2, most=8, cpus=9, gpus=1)
    examined = asked("pipeline", *training, "evaluate.actors=[3,12]")  # fewer nodes would wait for evaluation's
    assert examined == nodes.Nodes(least=3, most=8, cpus=9, gpus=1)
    for job in ("detect", "ingest", "refilter"):  # their actors take no GPU, whatever a Teacher takes
        assert asked(job, f"{job}.actors=[8,32]", *training) == nodes.Nodes(least=8, most=32, cpus=5, gpus=0)
    assert asked("synthesize", *training) == nodes.Nodes(least=1, most=8, cpus=5, gpus=0)
    assert asked("calibrate", *training) == nodes.Nodes(least=1, most=1, cpus=5, gpus=1)
    assert asked("evaluate", "evaluate.actors=[3,5]") == nodes.Nodes(least=3, most=5, cpus=5, gpus=1)


def test_a_process_larger_than_a_node_is_refused():
    with pytest.raises(InputError, match=r"takes 2 GPUs and a node has deploy\.node_gpus=1"):
        nodes.nodes_of(config_of("cluster.teacher_gpus=2"), "pseudo_label")


def test_an_image_is_needed():
    with pytest.raises(InputError, match=r"deploy\.image is needed"):
        manifest("deploy.image=null")


def script(*overrides):
    return slurm.script(config_of(*overrides), "pseudo_label", ["python", "-m", "jobs.x", "a=it's"])


def test_the_slurm_script_is_sound_bash(tmp_path):
    path = tmp_path / "job.sbatch"
    path.write_text(script("deploy.partition=gpu"))
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    lines = path.read_text().splitlines()
    assert {"#SBATCH --nodes=1-8", "#SBATCH --gpus-per-node=1", "#SBATCH --partition=gpu"} <= set(lines)
    assert "--partition" not in script()
    assert "--gpus-per-node" not in script("cluster.teacher_gpus=0")
    assert "#SBATCH --nodes=3\n" in script("cluster.teachers=[3,3]")


def test_slurms_nodes_are_those_of_the_dry_run(capsys):
    given = ["slurm", *ARGUMENTS, "cluster.teachers=[4,64]"]
    assert deploy.main([*given, "--dry-run"]) == 0
    assert "would ask for 4 to 64 nodes" in capsys.readouterr().out
    assert deploy.main(given) == 0
    assert "#SBATCH --nodes=4-64\n" in capsys.readouterr().out


SRUN = """#!/bin/bash
[ "$(stat -c %a "$RAY_AUTH_TOKEN_PATH")" = 600 ] || exit 99
# --kill-on-bad-exit=1: the first task that fails ends the others by a signal, and that is what srun tells
while [ "${1#--}" != "$1" ]; do echo "$1" >> "$SLURM_SUBMIT_DIR/asked"; shift; done
"$@" || { code=$?; [ "$SLURM_JOB_NUM_NODES" = 1 ] && exit "$code"; exit 143; }
"""
RAY = """#!/bin/bash
[ "$RAY_STARTS" = yes ] || { echo "Failed to start Ray"; exit 0; }
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
SCONTROL = """#!/bin/bash
echo "$*" >> "$SLURM_SUBMIT_DIR/told"
case "$1 $2" in "show hostnames") echo node-1;; "show job") echo "JobState=$JOB_STATE Reason=None";;
requeue*) exit "$REFUSED";; esac
"""


def slurm_script(folder, command, variables):
    """The real script, and an environment in which srun, ray and scontrol are small scripts that behave like them."""
    for name, text in (("srun", SRUN), ("ray", RAY), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "python").symlink_to(shutil.which("python3"))
    path = folder / "job.sbatch"
    path.write_text(slurm.script(config_of(), "pseudo_label", command))
    environment = {
        "PATH": f"{folder}:{Path(shutil.which('python3')).parent}:/usr/bin:/bin", "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node-[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_CPUS_PER_TASK": "5",
        "RAY_STARTS": "yes", "JOB_STATE": "RUNNING", "REFUSED": "0",
    }  # fmt: skip
    return ["bash", str(path)], environment | variables


def slurm_run(folder, command, **variables):
    """How the script ends, and whether the job goes back into the queue."""
    words, environment = slurm_script(folder, command, variables)
    ended = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
    assert not list(folder.glob(".ray-token-*"))
    assert not list(folder.glob(".exit-code-*"))
    return ended, "requeue 7" in (folder / "told").read_text()


@pytest.mark.parametrize("nodes", ["1", "7"])
def test_srun_starts_ray_on_each_node_of_the_allocation(tmp_path, nodes):
    """Of a range of nodes, Slurm gives as many as it has."""
    ended, _ = slurm_run(tmp_path, ["true"], SLURM_JOB_NUM_NODES=nodes, SLURM_NTASKS="1")
    assert ended.returncode == 0
    assert {f"--nodes={nodes}", f"--ntasks={nodes}"} <= set((tmp_path / "asked").read_text().split())


def test_srun_gets_the_cpus_of_a_task(tmp_path):
    """Otherwise Ray's processes share one CPU, from Slurm 22.05 on."""
    command = ["bash", "-c", f'echo "$SRUN_CPUS_PER_TASK" > {tmp_path}/cpus']
    assert slurm_run(tmp_path, command)[0].returncode == 0
    assert (tmp_path / "cpus").read_text() == "5\n"


@pytest.mark.parametrize("nodes", ["1", "2"])
@pytest.mark.parametrize(("code", "requeued"), [(0, False), (2, False), (137, False), (75, True)])
def test_the_slurm_script_goes_back_into_the_queue_for_75_alone(tmp_path, code, requeued, nodes):
    """srun tells 143 where one of several nodes ends with 75; what an earlier try noted does not count."""
    (tmp_path / ".exit-code-7").write_text("3")
    command = ["bash", "-c", f'echo "$1" > {tmp_path}/word; exit {code}', "job", "it's $HOME"]
    ended, again = slurm_run(tmp_path, command, SLURM_JOB_NUM_NODES=nodes, SLURM_RESTART_COUNT="9")
    assert (ended.returncode, again) == (0 if requeued else code, requeued), ended.stderr
    assert (tmp_path / "word").read_text() == "it's $HOME\n"


@pytest.mark.parametrize(
    ("variables", "requeued"),
    [
        ({}, True),
        ({"SLURM_RESTART_COUNT": "4"}, True),
        ({"SLURM_RESTART_COUNT": "5"}, False),
        ({"JOB_STATE": "COMPLETING"}, False),  # scancel
    ],
)
def test_slurm_tries_again_a_few_times_where_ray_does_not_start(tmp_path, variables, requeued):
    """``ray symmetric-run`` ends with 0 then, without a run of the command."""
    ended, again = slurm_run(tmp_path, ["touch", str(tmp_path / "ran")], RAY_STARTS="no", **variables)
    assert (ended.returncode, again) == (0 if requeued else 1, requeued)
    assert ("left no exit code: Ray did not start" in ended.stdout) == ("JOB_STATE" not in variables)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("sent", "state", "requeued"),
    [
        (signal.SIGUSR1, "RUNNING", True),  # the time limit is near
        (signal.SIGTERM, "RUNNING", True),  # a preemption with a time of grace
        (signal.SIGTERM, "COMPLETING", False),  # scancel, or a preemption that requeues by itself
        (signal.SIGTERM, "CANCELLED", False),
    ],
)
def test_scancel_ends_a_slurm_job_for_good(tmp_path, sent, state, requeued):
    (tmp_path / ".tried-7").write_text("3")
    command = ["bash", "-c", f"touch {tmp_path}/began; exec sleep 5"]
    words, environment = slurm_script(tmp_path, command, {"JOB_STATE": state, "SLURM_RESTART_COUNT": "3"})
    with subprocess.Popen(words, env=environment, start_new_session=True, stdout=subprocess.DEVNULL) as job:
        while not (tmp_path / "began").exists():
            assert job.poll() is None
            time.sleep(0.02)
        job.send_signal(sent)
        assert job.wait(5) == (0 if requeued else 1)
        os.killpg(job.pid, signal.SIGKILL)  # the command, which Slurm would end
    assert ("requeue 7" in (tmp_path / "told").read_text()) == requeued
    assert (tmp_path / ".tried-7").exists() == requeued  # neither signal counts as a try


def test_a_refused_requeue_is_told_and_is_no_success(tmp_path):
    ended, _ = slurm_run(tmp_path, ["bash", "-c", "exit 75"], REFUSED="1")
    assert ended.returncode == 75
    assert "not requeued: Slurm refuses it" in ended.stdout


@pytest.mark.parametrize(
    ("tried", "restarts", "requeued"), [("18", "30", True), ("19", "30", False), ("19", "0", True), (None, "40", True)]
)
def test_slurm_tries_again_for_75_a_number_of_times(tmp_path, tried, restarts, requeued):
    """Restarts after preemptions do not count, nor do tries of an older job with this number."""
    if tried is not None:
        (tmp_path / ".tried-7").write_text(tried)
    ended, again = slurm_run(tmp_path, ["bash", "-c", "exit 75"], SLURM_RESTART_COUNT=restarts)
    assert (ended.returncode, again) == (0 if requeued else 75, requeued)
    assert ("mend the cause, then sbatch this script again" in ended.stdout) != requeued
    assert (tmp_path / ".tried-7").exists() == requeued


def test_the_printed_command_reads_back_as_the_settings(capsys):
    assert deploy.main(["kuberay", "--config", str(ROOT / "configs" / "ho3d.yaml"), *ARGUMENTS]) == 0
    job = yaml.safe_load(capsys.readouterr().out)
    loop = shlex.split(job["spec"]["entrypoint"])[2]
    words = shlex.split(loop.partition("while :; do ")[2].partition("; code=")[0])
    assert words[:3] == ["python", "-m", "jobs.pseudo_label"]
    found = settings.load(command.DEFAULT_CONFIG, words[3:])
    given = settings.load(ROOT / "configs" / "ho3d.yaml", ARGUMENTS)
    for group in ("model", "tta", "filters", "labelling", "videos", "teacher", "output"):
        assert getattr(found, group) == getattr(given, group), group
    assert found.cluster.address == "auto"
    assert found.deploy == settings.Config().deploy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deploy.job=bench"], "is not a job that runs on a cluster"),
        (["output=runs/here"], "is a relative path"),
        (["deploy.job=null"], "'deploy.job' is needed"),
        (["videos.boxes=null"], "'videos.boxes' is needed"),
        (["output=null"], "'output' is needed"),
        (["deploy.job=retrain"], "'data.pseudo.labels' is needed"),
    ],
)
def test_what_cannot_run_there_is_refused(capsys, arguments, message):
    assert deploy.main(["slurm", *ARGUMENTS, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "job", "message"),
    [
        ("slurm", "status", "gives a cluster no work; run python -m jobs.status where you are"),
        ("kuberay", "report", "gives a cluster no work"),
        ("kuberay", "gc", "gives a cluster no work"),
        ("slurm", "list", "is not a job that runs on a cluster"),
    ],
)
def test_jobs_that_would_leave_their_nodes_idle_are_refused(capsys, word, job, message):
    assert deploy.main([word, *ARGUMENTS, f"deploy.job={job}"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("word", ["kuberay", "slurm"])
def test_a_calibration_asks_for_one_node(capsys, word):
    calibration = [word, *ARGUMENTS, "deploy.job=calibrate", "--dry-run"]
    assert deploy.main(calibration) == 0
    assert "would ask for 1 to 1 nodes of 5 CPUs and 1 GPUs" in capsys.readouterr().out
    assert deploy.main([*calibration, "calibrate.predictions=s3://b/l"]) == (2 if word == "kuberay" else 0)
    assert ("judges labels that are made, on the head" in capsys.readouterr().err) == (word == "kuberay")


def test_the_command_of_a_dry_run_can_be_pasted(capsys):
    given = ["--config", str(ROOT / "configs" / "ho3d.yaml"), *ARGUMENTS]
    assert deploy.main(["slurm", *given, "--dry-run"]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:3] == ["python", "-m", "jobs.pseudo_label"]
    model = settings.load(ROOT / "configs" / "ho3d.yaml", ARGUMENTS).model
    assert settings.load(command.DEFAULT_CONFIG, words[3:]).model == model


def test_a_claim_is_mounted_in_every_pod():
    job = manifest('deploy.claims={"/data":"videos","/models":"mano"}')
    check_kind(job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"], "V1PodTemplateSpec")
    groups = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    assert len(groups) == 2
    for spec in (group["template"]["spec"] for group in groups):
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in spec["volumes"]
            if "persistentVolumeClaim" in volume
        }
        [container] = spec["containers"]
        mounted = {mount["mountPath"]: claims.get(mount["name"]) for mount in container["volumeMounts"]}
        assert mounted == {"/dev/shm": None, "/tmp": None, "/data": "videos", "/models": "mano"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["videos.root=/data/videos"], 2, "videos.root=/data/videos lies in no folder that the pods see"),
        (["videos.root=/data/videos", 'deploy.claims={"/dat":"videos"}'], 2, "lies in no folder"),
        (["videos.root=/data/videos", 'deploy.claims={"/data":"videos"}'], 0, ""),
        (["mano.path=/opt/mano/MANO_RIGHT.pkl", 'deploy.image_folders=["/opt/mano"]'], 0, ""),
        (["cluster.cache=/tmp/cache"], 0, ""),
        (["output=/tmp/labels"], 2, "output=/tmp/labels lies in no folder"),
        (["output=file:///data/labels"], 2, "output=/data/labels lies in no folder"),
        (["output=file:///data/labels", 'deploy.claims={"/data":"labels"}'], 0, ""),
        (['deploy.claims={"data":"videos"}'], 2, "expected an absolute folder"),
        (['deploy.claims={"/tmp/":"videos"}'], 2, "expected an absolute folder"),
    ],
)
def test_local_paths_need_a_volume_in_pods(capsys, arguments, code, message):
    assert deploy.main(["kuberay", *ARGUMENTS, *arguments]) == code
    assert message in capsys.readouterr().err


ONE_NODE = ["cluster.teachers=[1,1]", "cluster.workers=[1,1]"]
OWN = ["data.ho3d.root=s3://bucket/ho3d", "videos.root=s3://bucket/v", "videos.boxes=s3://bucket/b"]


@pytest.mark.parametrize(
    ("word", "arguments", "code"),
    [
        ("kuberay", [], 2),
        ("kuberay", ONE_NODE, 2),  # the head and the worker are two pods
        ("slurm", [], 2),
        ("slurm", ONE_NODE, 0),
        ("kuberay", OWN, 0),
        ("kuberay", ["world=/data/world", 'deploy.claims={"/data":"worlds"}'], 0),
        ("slurm", ["world=/data/world"], 0),
    ],
)
@pytest.mark.parametrize("job", ["pipeline", "study"])
def test_a_world_that_one_node_alone_sees_is_refused(capsys, job, word, arguments, code):
    given = [f"deploy.job={job}", "deploy.image=i", "output=s3://b/o", "cluster.teachers=[1,4]", "--dry-run"]
    assert deploy.main([word, *given, *arguments]) == code
    error = capsys.readouterr().err
    assert ("with output=s3://b/o it lies in the folder for temporary files of one node" in error) == (code == 2)


def test_the_examples_are_what_the_command_prints(capsys):
    """Kept in step: python -m jobs.deploy kuberay|slurm with the line at the top of each file."""
    for name, word in (("rayjob.yaml", "kuberay"), ("label.sbatch", "slurm")):
        text = (ROOT / "examples" / name).read_text()
        (line,) = [line for line in text.splitlines() if line.startswith("# python -m jobs.deploy ")]
        words = shlex.split(line.removeprefix("# python -m jobs.deploy "))
        assert words[0] == word
        at = words.index("--config") + 1
        words[at] = str(ROOT / words[at])
        assert deploy.main(words) == 0
        assert "".join(text.splitlines(keepends=True)).replace(line + "\n", "", 1) == capsys.readouterr().out


def test_image_and_clusters_have_one_version_of_ray():
    versions = []
    for path in ("examples/Dockerfile", "ray-cluster.yaml"):
        (line,) = [line for line in (ROOT / path).read_text().splitlines() if "ray[default,train,data]" in line]
        versions.append(line.split("==")[1].split('"')[0])
    assert versions == ["2.60.*", "2.60.*"]


def test_the_image_holds_what_it_copies():
    lines = (ROOT / "examples" / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert {"hojoint", "cluster", "jobs", "configs", "pyproject.toml"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize(
    ("job", "given", "message"),
    [
        ("train", [], "data.ho3d.root"),
        ("train", ["train.datasets=[freihand]", "data.ho3d.root=s3://b/h"], "data.freihand.root"),
        ("train", ["data.ho3d.shards=s3://b/s"], None),
        ("ingest", [], "data.ho3d.root"),
        ("ingest", ["ingest.dataset=freihand", "data.freihand.root=s3://b/f"], None),
        ("evaluate", [], "evaluate.checkpoint"),
        ("evaluate", ["score.predictions=s3://b/p.json", "score.truth=s3://b/t"], None),
    ],
)
def test_a_job_without_its_data_is_refused_before_nodes_start(job, given, message, capsys):
    words = [f"deploy.job={job}", "deploy.image=i", "output=s3://b/o", *given]
    assert deploy.main(["kuberay", *words]) == (2 if message else 0)
    assert message is None or f"the setting '{message}' is needed" in capsys.readouterr().err
