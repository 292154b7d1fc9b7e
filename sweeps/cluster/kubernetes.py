"""A sweep as KubeRay's `RayJob`: a manifest that carries the command line, and its submission with kubectl.

KubeRay starts a head and workers, the head runs the sweep, trials run on the workers only. Pods ask for nothing
privileged, and for as much as they may use, so that Kubernetes gives them whole cores where it can.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import yaml

from sweeps.cluster.command_line import Request, resuming, text
from sweeps.errors import SweepError
from sweeps.ranges import at_least

COMMAND = "kubectl"
_RESULTS = "/results"
_SCRIPTS = "/sweep"
_STOP_S = 120
"""Time that a pod or a job which is stopped has to keep what it found, seconds."""
_UID = 1000
"""The user that the image runs as."""
_QUANTITY = re.compile(r"\d+(\.\d+)?([EPTGMk]i?)?")
_STORE = re.compile(r"(s3|gs)://[^?\s]+")


@dataclass
class Options:
    """What `cluster=kubernetes` takes; `conf/cluster/kubernetes.yaml` says what each one means."""

    name: str = "kubernetes"
    image: Optional[str] = None  # noqa: UP045 - OmegaConf reads the annotation at run time
    namespace: Optional[str] = None  # noqa: UP045
    workers: int = 1
    cpus: int = 4
    memory: str = "16Gi"
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = field(default_factory=dict)
    head_cpus: int = 2
    head_memory: str = "8Gi"
    claim: Optional[str] = None  # noqa: UP045
    store: Optional[str] = None  # noqa: UP045
    secret: Optional[str] = None  # noqa: UP045
    service_account: Optional[str] = None  # noqa: UP045
    keep_s: int = 600


@dataclass(frozen=True, kw_only=True)
class Job:
    """A RayJob to be, and where its results will lie."""

    name: str
    text: str
    """The manifest: a ConfigMap with the sweep's script, and the RayJob."""
    results: str

    def submit(self, say: Callable[[str], None]) -> int:
        """Hand the manifest to kubectl. Raises SweepError with what it says."""
        command = [COMMAND, "apply", "--filename", "-"]
        try:
            done = subprocess.run(command, input=self.text, capture_output=True, text=True, check=False)
        except OSError as error:
            raise SweepError(f"kubectl could not be started, nothing was submitted: {error}") from error
        if done.returncode != 0:
            # It makes two objects, one after the other.
            there = f"; `kubectl get rayjob {self.name}` tells whether the job is there all the same"
            raise SweepError(f"kubectl did not take the job: {done.stderr.strip()}{there}")
        say(f"Job      {self.name}; `kubectl get rayjob {self.name}` tells its state")
        say(f"Output   `kubectl logs --follow job/{self.name}`")
        say(f"Results  {self.results}")
        return 0


def problems(options: Options) -> list[str]:
    """What is wrong with the options, a sentence each."""
    found = []
    if not options.image:
        found.append("cluster.image: expected an image with this project in it, as the Dockerfile builds it.")
    if (options.claim is None) == (options.store is None):
        received = "neither" if options.claim is None else "both"
        found.append(
            "cluster.claim, cluster.store: expected one of them, because the pods' own files go with the pods. "
            f"Received: {received}."
        )
    if options.store is not None and not _STORE.fullmatch(options.store):
        found.append(f"cluster.store={options.store}: expected s3://bucket/folder or gs://bucket/folder.")
    found += at_least("cluster.", vars(options), {"workers": 1, "cpus": 1, "gpus": 0, "head_cpus": 1, "keep_s": 0})
    amounts = {"memory": options.memory, "head_memory": options.head_memory}
    wrong = {key: value for key, value in amounts.items() if not _QUANTITY.fullmatch(value)}
    return found + [f"cluster.{key}={value}: expected an amount such as 16Gi." for key, value in wrong.items()]


def job(options: Options, request: Request) -> Job:
    """The job that runs the request in a folder of its name, or goes on with one that is there."""
    name = request.name
    folder = f"{_RESULTS}/{name if request.resume is None else request.resume.removeprefix(f'{_RESULTS}/')}"
    arguments = [*request.arguments, *request.tracking(f"sqlite:///{_RESULTS}/mlflow.db")]
    documents = [
        _config_map(options, name, _exports(request) + _script(options, folder, arguments, new=request.resume is None)),
        manifest(options, name),
    ]
    written = "".join(f"---\n{yaml.dump(document, Dumper=_Dumper, sort_keys=False)}" for document in documents)
    place = f"claim {options.claim}, {folder.removeprefix(_RESULTS)}" if options.claim else _stored(options, folder)
    return Job(name=name, text=written, results=place)


def manifest(options: Options, name: str) -> dict[str, Any]:
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
        ),
    }
    head = _container("ray-head", options, options.head_cpus, options.head_memory)
    head["volumeMounts"] = [{"name": "sweep", "mountPath": _SCRIPTS}, {"name": "results", "mountPath": _RESULTS}]
    # Ray itself would give a job that is stopped 3 s.
    head["env"] = [{"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(_STOP_S)}]
    if options.secret is not None:
        head["envFrom"] = [{"secretRef": {"name": options.secret}}]
    claim = {"persistentVolumeClaim": {"claimName": options.claim}} if options.claim else {"emptyDir": {}}
    volumes = [{"name": "sweep", "configMap": {"name": name}}, {"name": "results", **claim}]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": _metadata(options, name),
        "spec": {
            "entrypoint": f"bash {_SCRIPTS}/run.sh",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": options.keep_s,
            "submitterPodTemplate": _pod(options, _container("submitter", options, 1, "1Gi"), restartPolicy="Never"),
            "rayClusterSpec": {
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},  # no trial beside the driver
                    "template": _pod(options, head, volumes=volumes),
                },
                "workerGroupSpecs": [worker],
            },
        },
    }


def _script(options: Options, folder: str, arguments: Sequence[str], *, new: bool) -> str:
    """What the head runs: the sweep, or what is left of it when the job is started again."""
    where = text(folder)
    stored, folder = shlex.quote(_stored(options, folder)), shlex.quote(folder)
    resume = f"set -- {shlex.join([f'resume={where}', *resuming(arguments)])}"
    lines = ["cd /sweeps || exit 1"]
    if options.store is not None:
        copy = "python -m sweeps.cluster.store"
        lines.append(f"{copy} {stored} {folder} || exit 1")
    if new:
        own = [f"hydra.sweep.dir={where}", f"hydra.run.dir={where}"]
        lines.append(f"set -- {shlex.join([*arguments, *own])}")
    lines += [
        "trap : TERM  # a job that is stopped: Ray tells the sweep itself, and what it has is still to be kept",
        f"[ -f {folder}/plan.json ] && {resume}" if new else resume,
        'python sweeps/run.py "$@" cluster=ray cluster.address=auto',
        "code=$?",
    ]
    if options.store is not None:
        lines.append(f"{copy} {folder} {stored} || exit 1")
    return "\n".join([*lines, 'exit "$code"', ""])


def _exports(request: Request) -> str:
    """Lines that tell the job of the command that submitted it."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in request.environment.items())


def _stored(options: Options, folder: str) -> str:
    return f"{(options.store or '').rstrip('/')}{folder.removeprefix(_RESULTS)}"


def _metadata(options: Options, name: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "sweeps", "app.kubernetes.io/instance": name}
    return {"name": name, **({"namespace": options.namespace} if options.namespace else {}), "labels": labels}


def _config_map(options: Options, name: str, script: str) -> dict[str, Any]:
    data = {"run.sh": script}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(options, name), "data": data}


def _pod(options: Options, container: Mapping[str, Any], **further: Any) -> dict[str, Any]:
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
    if options.service_account is not None:
        spec["serviceAccountName"] = options.service_account
    return {"spec": spec}


def _container(name: str, options: Options, cpus: int, memory: str, *, gpus: int = 0) -> dict[str, Any]:
    amounts = {"cpu": str(cpus), "memory": memory} | ({options.gpu_resource: str(gpus)} if gpus else {})
    return {
        "name": name,
        "image": options.image,
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


class _Dumper(yaml.SafeDumper):
    """Writes a script as a block that can be read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
