from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
import tensorflow as tf

from sweeps.tasks.timing import gpus
from sweeps.worker.isolate import run_trial
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Trial
from tracking.schema.device import Device

GPU = Device(name="gpu", kind="gpu", cpus=1, gpus=1)


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has an NVIDIA driver")
def test_a_trial_without_its_gpu_says_what_is_missing(server: str, tmp_path: Path) -> None:
    env = {"CUDA_VISIBLE_DEVICES": "0"}
    trial = Trial(model="tiny", batch=1, device=GPU)
    result = run_trial(trial, sweep_id="s", server=server, cores=(0,), env=env, folder=TrialFolder(tmp_path))
    assert result.status == "error"
    assert result.error is not None
    assert result.error.message == (
        "expected TensorFlow to see 1 GPU. Received: none. There is no NVIDIA driver: libcuda.so.1 cannot be opened."
    )


def test_the_library_that_tensorflow_misses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (version,) = gpus.LIBRARIES
    build = {"is_cuda_build": True, "cuda_version": f"{version}.5.1"}
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: build)
    there = {gpus.DRIVER, gpus.MANAGEMENT, *gpus.LIBRARIES[version]}
    monkeypatch.setattr(gpus, "_opens", lambda name: name in there)
    assert gpus.why_none().startswith("The driver and CUDA 12's libraries are installed")
    there -= {"libcudnn.so.9", "libcufft.so.11", "libnccl.so.2"}
    assert "lacks libcufft.so.11, libcudnn.so.9, libnccl.so.2; pip install" in gpus.why_none()
    build["is_cuda_build"] = False
    assert gpus.why_none() == "This TensorFlow was built without CUDA."


def test_each_library_is_looked_for_as_the_loader_does(tmp_path: Path) -> None:
    """With a folder of libraries that has none, then the driver, its other part, and all but one of CUDA's."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or gpus._opens(gpus.DRIVER):
        pytest.skip("needs a C compiler, and no NVIDIA driver")
    (version,) = gpus.LIBRARIES
    (tmp_path / "empty.c").touch()
    for name in (gpus.DRIVER, gpus.MANAGEMENT, *gpus.LIBRARIES[version]):
        subprocess.run([compiler, "-shared", "-o", tmp_path / f"{name}.later", tmp_path / "empty.c"], check=True)
    code = (
        "import os, sys; from sweeps.tasks.timing import gpus; import tensorflow as tf\n"
        f"tf.sysconfig.get_build_info = lambda: {{'is_cuda_build': True, 'cuda_version': '{version}.5'}}\n"
        "gpus.site.getsitepackages = lambda: []\n"
        "for names in sys.argv[1:]:\n"
        "    for name in names.split(','): os.rename(f'{name}.later', name)\n"
        "    print(gpus.why_none())\n"
    )
    last = gpus.LIBRARIES[version][-1]
    groups = [gpus.DRIVER, gpus.MANAGEMENT, ",".join(gpus.LIBRARIES[version][:-1]), last]
    env = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).resolve().parents[4])}
    done = subprocess.run(
        [sys.executable, "-c", code, *groups], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    management, cuda, nccl, nothing = done.stdout.splitlines()
    assert management.startswith("The NVIDIA driver is installed, but its libnvidia-ml.so.1 cannot be opened")
    assert cuda.startswith(f"TensorFlow lacks {', '.join(gpus.LIBRARIES[version])};")
    assert nccl.startswith(f"TensorFlow lacks {last};")
    assert "are installed" in nothing


def test_several_gpus_need_the_library_that_sums_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["one", "other"])
    monkeypatch.setattr(gpus, "_opens", lambda name: name != gpus.NCCL)
    with pytest.raises(gpus.GpuError, match=r"expected libnccl\.so\.2 for 2 GPUs\. Received: none\. pip install"):
        gpus.prepare(Device(name="gpu", kind="gpu", gpus=2))


def test_this_tensorflow_was_built_for_a_cuda_whose_libraries_are_known() -> None:
    build = tf.sysconfig.get_build_info()
    if not build["is_cuda_build"]:
        pytest.skip("this TensorFlow was built without CUDA")
    assert build["cuda_version"].split(".")[0] in gpus.LIBRARIES


def test_a_library_is_found_among_nvidias_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path / "nvidia" / "cudnn" / "lib"
    folder.mkdir(parents=True)
    (tmp_path / "empty.c").touch()
    command = [compiler, "-shared", "-o", folder / "libcudnn_of_a_test.so.9", tmp_path / "empty.c"]
    subprocess.run(command, check=True)
    assert not gpus._opens("libcudnn_of_a_test.so.9")
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path)])
    assert gpus._opens("libcudnn_of_a_test.so.9")
    (folder / "libdamaged.so.1").write_bytes(b"no library")
    assert not gpus._opens("libdamaged.so.1")


def test_memory_grows_or_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow takes no such limit for a processor, so its functions are replaced."""
    grow = create_autospec(tf.config.experimental.set_memory_growth)
    end = create_autospec(tf.config.set_logical_device_configuration)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    monkeypatch.setattr(tf.config, "set_logical_device_configuration", end)
    gpus.limit(["one", "other"], None)
    assert [call.args for call in grow.call_args_list] == [("one", True), ("other", True)]
    end.assert_not_called()
    gpus.limit(["one"], 900)
    ((gpu, (configuration,)),) = [call.args for call in end.call_args_list]
    assert (gpu, configuration.memory_limit) == ("one", 900)


def test_a_gpu_whose_memory_others_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(free_mb=lambda: 2000.0, facts=lambda: {"name": "Fake H100"})
    monkeypatch.setattr(gpus, "visible_cards", lambda: [card])
    gpus.expect_free(GPU)
    with pytest.raises(gpus.GpuError, match=r"expected 4000 MB free on Fake H100\. Received: 2000 MB"):
        gpus.expect_free(Device(name="gpu", kind="gpu", gpus=1, gpu_memory_mb=4000))
