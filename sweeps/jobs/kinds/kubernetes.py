"""A sweep as KubeRay's `RayJob`: a manifest that carries the command line, and its submission with kubectl.

KubeRay starts a head and workers; the head runs the sweep, and trials run on the workers only.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional

from sweeps.errors import UsageError
from sweeps.jobs.job import HandedOver, PlannedNode, Terminal
from sweeps.jobs.kubernetes import manifest, values
from sweeps.jobs.remote_job import RemoteJob
from sweeps.machine.host import version_of
from sweeps.machine.node import Node
from sweeps.typed import command_line
from sweeps.typed.arguments import key_of
from sweeps.typed.command_line import Request

COMMAND = "kubectl"
_RESULTS = "/results"
_SCRIPTS = "/sweep"
_COPY_S = 60
"""How often a sweep's folder is copied to the object store while the sweep runs, seconds."""
_LONGEST_SCRIPT = 200_000
"""Bytes; `kubectl apply` keeps the whole manifest in an annotation, which may have 256 KiB."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A RayJob that is ready to be submitted, and the place of its results."""

    name: str
    namespace: str | None
    text: str
    """The manifest: a ConfigMap with the sweep's script, and the RayJob."""
    results: str

    def submit(self, terminal: Terminal) -> HandedOver:
        """Hand the manifest to kubectl. Raises UsageError with its message where it fails."""
        state, output = self._kubectl("get", "rayjob", self.name), self._kubectl("logs", "--follow", f"job/{self.name}")
        command = [COMMAND, "apply", "--filename", "-"]
        try:
            done = subprocess.run(command, input=self.text, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UsageError([f"kubectl could not be started, nothing was submitted: {error}"]) from error
        if done.returncode != 0:
            # It creates two objects, one after the other, so the job may exist all the same.
            hint = f"; `{state}` shows whether it was created anyway"
            raise UsageError([f"kubectl did not accept the job: {done.stderr.strip()}{hint}"])
        terminal.say(f"Job      {self.name}; `{state}` shows its state")
        terminal.say(f"Output   `{output}`")
        terminal.say(f"Results  {self.results}")
        return HandedOver(0, self.name)

    def _kubectl(self, *arguments: str) -> str:
        """Return a command about the job as a user would type it, in the job's namespace."""
        return shlex.join([COMMAND, *arguments, *(["--namespace", self.namespace] if self.namespace else [])])


@dataclass
class Kubernetes(RemoteJob):
    """KubeRay on a Kubernetes cluster; `conf/cluster/kubernetes.yaml` explains each option."""

    name: str = "kubernetes"
    image: Optional[str] = None  # noqa: UP045 - OmegaConf reads the annotation at run time
    image_pull_secrets: list[str] = field(default_factory=list)
    ray_version: Optional[str] = None  # noqa: UP045
    namespace: Optional[str] = None  # noqa: UP045
    workers: int = 1
    cpus: int = 4
    memory: str = "16Gi"
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[Any] = field(default_factory=list)
    head_cpus: int = 2
    head_memory: str = "8Gi"
    head_node_selector: dict[str, str] = field(default_factory=dict)
    head_tolerations: list[Any] = field(default_factory=list)
    claim: Optional[str] = None  # noqa: UP045
    store: Optional[str] = None  # noqa: UP045
    secret: Optional[str] = None  # noqa: UP045
    service_account: Optional[str] = None  # noqa: UP045
    labels: dict[str, str] = field(default_factory=dict)
    backoff_limit: int = 0
    keep_s: int = 600

    submits_with: ClassVar[str | None] = COMMAND

    def problems(self) -> list[str]:
        problems = []
        if self.image is None:
            problems.append("cluster.image: expected an image that contains this project, as the Dockerfile builds it.")
        if (self.claim is None) == (self.store is None):
            received = "neither" if self.claim is None else "both"
            problems.append(
                "cluster.claim, cluster.store: expected one of them, because files in the pods are lost with them. "
                f"Received: {received}."
            )
        return problems + values.problems({**vars(self), "ray_version": _ray_version(self)})

    def node(self) -> Node:
        return PlannedNode(cpus=self.cpus or sys.maxsize, gpus=self.gpus, name="a node of cluster=kubernetes")

    def remote_job(self, request: Request) -> Manifest:
        """Return the job that runs the request in a folder of its name, or resumes an existing sweep.

        Raises UsageError for a command line that is too long.
        """
        name = request.name
        folder = f"{_RESULTS}/{name if request.resume is None else request.resume.removeprefix(f'{_RESULTS}/')}"
        arguments = [*request.arguments, *request.tracking(f"sqlite:///{_RESULTS}/mlflow.db")]
        script = _exports(request) + _script(self, name, folder, arguments, new=request.resume is None)
        if (size := len(script.encode())) > _LONGEST_SCRIPT:
            expected = f"expected arguments that fit into the {_LONGEST_SCRIPT} bytes of a manifest's script"
            raise UsageError([f"cluster=kubernetes: {expected}. Received: {size} bytes."])
        about = manifest.metadata(name, self.namespace, self.labels)
        text = manifest.to_yaml([manifest.config_map(about, {"run.sh": script}), _ray_job(self, about)])
        place = f"claim {self.claim}, {folder.removeprefix(_RESULTS)}" if self.claim else _stored(self, folder)
        return Manifest(name=name, namespace=self.namespace, text=text, results=place)


def _ray_job(options: Kubernetes, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the RayJob with the metadata `about`, whose head mounts the ConfigMap of the same name."""
    pods = manifest.Pods(
        image=options.image,
        image_pull_secrets=options.image_pull_secrets,
        service_account=options.service_account,
        gpu_resource=options.gpu_resource,
    )
    worker = {
        "groupName": "workers",
        "replicas": options.workers,
        "minReplicas": options.workers,
        "maxReplicas": options.workers,
        "rayStartParams": {"num-cpus": str(options.cpus), "num-gpus": str(options.gpus)},
        "template": pods.pod(
            pods.container("ray-worker", options.cpus, options.memory, gpus=options.gpus),
            nodeSelector=dict(options.node_selector),
            tolerations=[values.toleration(each) for each in options.tolerations],
        ),
    }
    placement = {
        "nodeSelector": dict(options.head_node_selector),
        "tolerations": [values.toleration(each) for each in options.head_tolerations],
    }
    head = pods.container("ray-head", options.head_cpus, options.head_memory)
    head["volumeMounts"] = [{"name": "sweep", "mountPath": _SCRIPTS}, {"name": "results", "mountPath": _RESULTS}]
    # Ray itself would give a job that is being stopped only 3 s.
    head["env"] = [{"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(manifest.STOP_S)}]
    if options.secret is not None:
        head["envFrom"] = [{"secretRef": {"name": options.secret}}]
    claim = {"persistentVolumeClaim": {"claimName": options.claim}} if options.claim else {"emptyDir": {}}
    volumes = [{"name": "sweep", "configMap": {"name": about["name"]}}, {"name": "results", **claim}]
    submitter = pods.container("submitter", 1, "1Gi")
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": dict(about),
        "spec": {
            "entrypoint": f"bash {_SCRIPTS}/run.sh",
            "backoffLimit": options.backoff_limit,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": options.keep_s,
            "submitterPodTemplate": pods.pod(submitter, restartPolicy="Never", **placement),
            "rayClusterSpec": {
                # KubeRay refuses authentication by token without a version, and chooses Ray's health checks by it.
                "rayVersion": _ray_version(options),
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},  # no trial beside the driver
                    "template": pods.pod(head, volumes=volumes, **placement),
                },
                "workerGroupSpecs": [worker],
            },
        },
    }


def _ray_version(options: Kubernetes) -> str:
    """Return the version of Ray in the image: the option, or the release installed here, which the image pins too."""
    if options.ray_version is not None:
        return options.ray_version
    release = re.match(r"\d+(\.\d+)*", version_of("ray") or "")
    return release[0] if release else ""


def _script(options: Kubernetes, name: str, folder: str, arguments: Sequence[str], *, new: bool) -> str:
    """Return what the head runs: the sweep, or what is left of it when the job is started again."""
    where = command_line.text(folder)
    stored, ended = shlex.quote(_stored(options, folder)), shlex.quote(f"{folder}/.{name}.ended")
    folder = shlex.quote(folder)
    resumed_with = command_line.resuming(arguments)
    once = [argument for argument in resumed_with if key_of(argument) != "rerun"]
    lines = ["cd /sweeps || exit 1"]
    if options.store is not None:
        copy = "python -m sweeps.jobs.store"
        lines.append(f"{copy} {stored} {folder} || exit 1")
    if new:
        places = [f"hydra.sweep.dir={where}", f"hydra.run.dir={where}"]
        lines.append(f"set -- {shlex.join([*arguments, *places])}")
    lines.append(
        "trap : TERM  # when the job is stopped, Ray stops the sweep itself, and its results are still to be copied"
    )
    resume = f"set -- {shlex.join([f'resume={where}', *resumed_with])}"
    lines.append(f"[ -f {folder}/plan.json ] && {resume}" if new else resume)
    if once != resumed_with:
        again = f"set -- {shlex.join([f'resume={where}', *once])}"
        lines.append(f"[ -f {ended} ] && {again}  # a retry does not repeat what this job has already rerun")
    if options.store is not None:
        lines += [f"{copy} {folder} {stored} --every {_COPY_S} &", "copying=$!"]
    lines += ['python sweeps/run.py "$@" cluster=ray cluster.address=auto', "code=$?"]
    if once != resumed_with:
        lines.append(f'[ "$code" -le 1 ] && : > {ended}')
    if options.store is not None:
        lines += ['kill "$copying" 2>/dev/null', 'wait "$copying" 2>/dev/null', f"{copy} {folder} {stored} || exit 1"]
    return "\n".join([*lines, 'exit "$code"', ""])


def _exports(request: Request) -> str:
    """Return the lines that tell the job which command submitted it."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in request.environment.items())


def _stored(options: Kubernetes, folder: str) -> str:
    return f"{(options.store or '').rstrip('/')}{folder.removeprefix(_RESULTS)}"
