"""A sweep as KubeRay's `RayJob`: a manifest that carries the command line, and its submission with kubectl.

KubeRay starts a head and workers, the head runs the sweep, trials run on the workers only. Pods ask for nothing
privileged, and for as much as they may use, so that Kubernetes gives them whole cores where it can.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional

import yaml

from sweeps.errors import UsageError
from sweeps.jobs.job import Handed, PlannedNode, RemoteJob, Terminal
from sweeps.jobs.kubernetes import values
from sweeps.machine.host import version_of
from sweeps.machine.node import Node
from sweeps.typed.arguments import key_of
from sweeps.typed.command_line import Request, resuming, text

COMMAND = "kubectl"
_RESULTS = "/results"
_SCRIPTS = "/sweep"
_STOP_S = 120
"""Time that a pod or a job which is stopped has to keep what it found, seconds."""
_UID = 1000
"""The user that the image runs as."""
_COPY_S = 60
"""How often a sweep's folder is copied to the object store while the sweep runs, seconds."""
_LONGEST_SCRIPT = 200_000
"""`kubectl apply` keeps what it was given in an annotation, which has 256 KiB for everything."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A RayJob that is ready to be submitted, and where its results will lie."""

    name: str
    namespace: str | None
    text: str
    """The manifest: a ConfigMap with the sweep's script, and the RayJob."""
    results: str

    def submit(self, terminal: Terminal) -> Handed:
        """Hand the manifest to kubectl. Raises UsageError with what it says."""
        state, output = self._kubectl("get", "rayjob", self.name), self._kubectl("logs", "--follow", f"job/{self.name}")
        command = [COMMAND, "apply", "--filename", "-"]
        try:
            done = subprocess.run(command, input=self.text, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UsageError([f"kubectl could not be started, nothing was submitted: {error}"]) from error
        if done.returncode != 0:
            # It makes two objects, one after the other.
            there = f"; `{state}` tells whether the job is there all the same"
            raise UsageError([f"kubectl did not take the job: {done.stderr.strip()}{there}"])
        terminal.say(f"Job      {self.name}; `{state}` tells its state")
        terminal.say(f"Output   `{output}`")
        terminal.say(f"Results  {self.results}")
        return Handed(0, self.name)

    def _kubectl(self, *arguments: str) -> str:
        """A command about the job as a user types it, in the job's namespace."""
        return shlex.join([COMMAND, *arguments, *(["--namespace", self.namespace] if self.namespace else [])])


@dataclass
class Kubernetes(RemoteJob):
    """KubeRay on a Kubernetes cluster; `conf/cluster/kubernetes.yaml` says what each option means."""

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
        found = []
        if self.image is None:
            found.append("cluster.image: expected an image with this project in it, as the Dockerfile builds it.")
        if (self.claim is None) == (self.store is None):
            received = "neither" if self.claim is None else "both"
            found.append(
                "cluster.claim, cluster.store: expected one of them, because the pods' own files go with the pods. "
                f"Received: {received}."
            )
        return found + values.problems({**vars(self), "ray_version": _ray_version(self)})

    def node(self) -> Node:
        return PlannedNode(cpus=self.cpus or sys.maxsize, gpus=self.gpus, name="a node of cluster=kubernetes")

    def remote_job(self, request: Request) -> Manifest:
        """Make the job that runs the request in a folder of its name, or resumes one that is there.

        Raises UsageError for a command line that is too long.
        """
        name = request.name
        folder = f"{_RESULTS}/{name if request.resume is None else request.resume.removeprefix(f'{_RESULTS}/')}"
        arguments = [*request.arguments, *request.tracking(f"sqlite:///{_RESULTS}/mlflow.db")]
        script = _exports(request) + _script(self, name, folder, arguments, new=request.resume is None)
        if (size := len(script.encode())) > _LONGEST_SCRIPT:
            longest = f"expected arguments of at most {_LONGEST_SCRIPT} bytes, which Kubernetes can hold"
            raise UsageError([f"cluster=kubernetes: {longest}. Received: {size}."])
        documents = [_config_map(self, name, script), manifest(self, name)]
        written = "".join(f"---\n{yaml.dump(document, Dumper=_Dumper, sort_keys=False)}" for document in documents)
        place = f"claim {self.claim}, {folder.removeprefix(_RESULTS)}" if self.claim else _stored(self, folder)
        return Manifest(name=name, namespace=self.namespace, text=written, results=place)


def manifest(options: Kubernetes, name: str) -> dict[str, Any]:
    """The RayJob."""
    worker = {
        "groupName": "workers",
        "replicas": options.workers,
        "minReplicas": options.workers,
        "maxReplicas": options.workers,
        "rayStartParams": {"num-cpus": str(options.cpus), "num-gpus": str(options.gpus)},
        "template": _pod(
            options,
            _container("ray-worker", options, options.cpus, options.memory, gpus=options.gpus),
            nodeSelector=dict(options.node_selector),
            tolerations=[values.toleration(each) for each in options.tolerations],
        ),
    }
    beside = {
        "nodeSelector": dict(options.head_node_selector),
        "tolerations": [values.toleration(each) for each in options.head_tolerations],
    }
    head = _container("ray-head", options, options.head_cpus, options.head_memory)
    head["volumeMounts"] = [{"name": "sweep", "mountPath": _SCRIPTS}, {"name": "results", "mountPath": _RESULTS}]
    # Ray itself would give a job that is stopped 3 s.
    head["env"] = [{"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(_STOP_S)}]
    if options.secret is not None:
        head["envFrom"] = [{"secretRef": {"name": options.secret}}]
    claim = {"persistentVolumeClaim": {"claimName": options.claim}} if options.claim else {"emptyDir": {}}
    volumes = [{"name": "sweep", "configMap": {"name": name}}, {"name": "results", **claim}]
    submitter = _container("submitter", options, 1, "1Gi")
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": _metadata(options, name),
        "spec": {
            "entrypoint": f"bash {_SCRIPTS}/run.sh",
            "backoffLimit": options.backoff_limit,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": options.keep_s,
            "submitterPodTemplate": _pod(options, submitter, restartPolicy="Never", **beside),
            "rayClusterSpec": {
                # Without it KubeRay refuses a token, and from it KubeRay knows how to ask Ray for its health.
                "rayVersion": _ray_version(options),
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},  # no trial beside the driver
                    "template": _pod(options, head, volumes=volumes, **beside),
                },
                "workerGroupSpecs": [worker],
            },
        },
    }


def _ray_version(options: Kubernetes) -> str:
    """The Ray in the image: what the options say, or the release that is installed here, which the image pins too."""
    if options.ray_version is not None:
        return options.ray_version
    release = re.match(r"\d+(\.\d+)*", version_of("ray") or "")
    return release[0] if release else ""


def _script(options: Kubernetes, name: str, folder: str, arguments: Sequence[str], *, new: bool) -> str:
    """What the head runs: the sweep, or what is left of it when the job is started again."""
    where = text(folder)
    stored, ended = shlex.quote(_stored(options, folder)), shlex.quote(f"{folder}/.{name}.ended")
    folder = shlex.quote(folder)
    taken = resuming(arguments)
    once = [argument for argument in taken if key_of(argument) != "rerun"]
    lines = ["cd /sweeps || exit 1"]
    if options.store is not None:
        copy = "python -m sweeps.jobs.store"
        lines.append(f"{copy} {stored} {folder} || exit 1")
    if new:
        places = [f"hydra.sweep.dir={where}", f"hydra.run.dir={where}"]
        lines.append(f"set -- {shlex.join([*arguments, *places])}")
    lines.append("trap : TERM  # of a stopped job, Ray stops the sweep itself, and what it has is still to be kept")
    resume = f"set -- {shlex.join([f'resume={where}', *taken])}"
    lines.append(f"[ -f {folder}/plan.json ] && {resume}" if new else resume)
    if once != taken:
        again = f"set -- {shlex.join([f'resume={where}', *once])}"
        lines.append(f"[ -f {ended} ] && {again}  # a retry runs nothing anew that this job has run anew")
    if options.store is not None:
        lines += [f"{copy} {folder} {stored} --every {_COPY_S} &", "copying=$!"]
    lines += ['python sweeps/run.py "$@" cluster=ray cluster.address=auto', "code=$?"]
    if once != taken:
        lines.append(f'[ "$code" -le 1 ] && : > {ended}')
    if options.store is not None:
        lines += ['kill "$copying" 2>/dev/null', 'wait "$copying" 2>/dev/null', f"{copy} {folder} {stored} || exit 1"]
    return "\n".join([*lines, 'exit "$code"', ""])


def _exports(request: Request) -> str:
    """Lines that tell the job of the command that submitted it."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in request.environment.items())


def _stored(options: Kubernetes, folder: str) -> str:
    return f"{(options.store or '').rstrip('/')}{folder.removeprefix(_RESULTS)}"


def _metadata(options: Kubernetes, name: str) -> dict[str, Any]:
    labels = {**options.labels, "app.kubernetes.io/name": "sweeps", "app.kubernetes.io/instance": name}
    return {"name": name, **({"namespace": options.namespace} if options.namespace else {}), "labels": labels}


def _config_map(options: Kubernetes, name: str, script: str) -> dict[str, Any]:
    data = {"run.sh": script}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(options, name), "data": data}


def _pod(options: Kubernetes, container: Mapping[str, Any], **further: Any) -> dict[str, Any]:
    spec = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _UID,
            "runAsGroup": _UID,
            "fsGroup": _UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": options.service_account is not None,
        "terminationGracePeriodSeconds": _STOP_S,
        "containers": [dict(container)],
        **{key: value for key, value in further.items() if value},
    }
    if options.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secrets]
    if options.service_account is not None:
        spec["serviceAccountName"] = options.service_account
    return {"spec": spec}


def _container(name: str, options: Kubernetes, cpus: int, memory: str, *, gpus: int = 0) -> dict[str, Any]:
    amounts = {"cpu": str(cpus), "memory": memory} | ({options.gpu_resource: str(gpus)} if gpus else {})
    return {
        "name": name,
        "image": options.image,
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_READ_AS_OTHERS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}


class _Dumper(yaml.SafeDumper):
    """Writes a script as a block that can be read, and texts so that no reader of YAML takes them for anything else.

    PyYAML alone would leave 1e3 bare, which is a number to kubectl.
    """

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _READ_AS_OTHERS
    style = "|" if "\n" in value else None if plain else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
