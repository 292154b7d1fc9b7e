"""NVML's real Python package against a library of our own: no GPU is needed, one only confirms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps.machine.nvml import THROTTLES, visible_cards
from tests.support.machine import fake_nvml
from tests.support.machine.fake_nvml import QUIET
from tracking.analysis.doubts import judged
from tracking.record import Result, Trial
from tracking.schema.device import Device
from tracking.schema.measurement import Measurement

ROOT = Path(__file__).resolve().parents[3]
WATCHED = """
import json, os, sys
from sweeps.machine.nvml import CardWatch, visible_cards
from tests.support.machine.fake_nvml import write

now = 0.0
cards = visible_cards()
watch = CardWatch(cards, clock=lambda: now)
states = json.loads(sys.argv[1])
write(os.environ["FAKE_NVML"], states[0])
watch.start()
for state in states[1:-1]:
    write(os.environ["FAKE_NVML"], state)
    now += 0.4
    watch.between_steps()  # too early to look again
    now += 0.7
    watch.between_steps()
write(os.environ["FAKE_NVML"], states[-1])
print(json.dumps([[card.facts() for card in cards], [card.free_mb() for card in cards], watch.stop()]))
"""


def watched(folder: Path, *states: dict[str, int], visible: str | None = "0") -> tuple[list[Any], list[Any], Any]:
    """The cards' facts and free memory, and what a watch over these states of theirs finds."""
    env = fake_nvml.environment(folder, states[0])
    env.pop("CUDA_VISIBLE_DEVICES", None)
    env |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    command = [sys.executable, "-c", WATCHED, json.dumps(states)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    facts, free_mb, evidence = json.loads(done.stdout)
    return facts, free_mb, evidence


def doubts(evidence: dict[str, float]) -> tuple[str, ...]:
    steady = Measurement(first_call_s=1.0, warmup_s=(), step_s=(0.1,) * 20, stopped="target", evidence=evidence)
    trial = Trial(model="tiny", batch=1, device=Device(name="gpu", kind="gpu", gpus=1))
    return judged(Result(trial=trial, sweep_id="s", status="ok", passes={"forward": steady})).quality


def test_a_card_says_what_it_is(tmp_path: Path) -> None:
    facts, free_mb, _ = watched(tmp_path, QUIET, QUIET)
    assert facts == [
        {
            "name": "Fake H100 80GB HBM3",
            "uuid": "GPU-fake-0",
            "driver": "555.42",
            "cuda": "12.5",
            "memory_mb": 80 * 1024,
            "max_sm_mhz": 1980,
            "power_limit_w": 700.0,
        }
    ]
    assert free_mb == [70 * 1024]


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        ("1", ["GPU-fake-1"]),
        ("GPU-fake-1,0", ["GPU-fake-1", "GPU-fake-0"]),
        ("-1", []),
        ("7", []),
        (None, ["GPU-fake-0", "GPU-fake-1"]),
    ],
)
def test_only_the_visible_cards_are_queried(tmp_path: Path, visible: str | None, uuids: list[str]) -> None:
    facts, _, evidence = watched(tmp_path, QUIET, QUIET, visible=visible)
    assert [card["uuid"] for card in facts] == uuids
    assert bool(evidence) == bool(uuids)


def test_quiet_cards_are_good(tmp_path: Path) -> None:
    later = QUIET | {"energy_mj": 1_060_000}
    _, _, evidence = watched(tmp_path, QUIET, QUIET, later, visible="0,1")
    assert evidence == {
        "gpu_looks": 3,
        "gpu_sm_mhz_before": 1980,
        "gpu_sm_mhz_after": 1980,
        "gpu_sm_mhz_min": 1980,
        "gpu_temperature_c": 50,
        "gpu_power_w": 600,
        "gpu_energy_j": 120,
        "gpu_foreign_processes": 0,
    }
    assert doubts(evidence) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sm_mhz": 1410}, "clock: the GPU fell from 1980 to 1410 MHz (forward)"),
        ({"processes": 3}, "foreign: 2 other processes on the GPU (forward)"),
        ({"throttles": THROTTLES["temperature"]}, "throttled: by temperature in 67% of looks (forward)"),
        ({"throttles": THROTTLES["power_limit"]}, "throttled: by its power limit in 67% of looks (forward)"),
        ({"throttles": THROTTLES["power_brake"]}, "throttled: by the power brake in 67% of looks (forward)"),
        (
            {"throttles": THROTTLES["temperature"], "old_driver": 1},
            "throttled: by temperature in 67% of looks (forward)",
        ),
    ],
)
def test_what_troubles_a_card_is_reported(tmp_path: Path, change: dict[str, int], words: str) -> None:
    _, _, evidence = watched(tmp_path, QUIET, QUIET | change, QUIET | change)
    assert doubts(evidence) == (words,)


def test_a_clock_that_is_idle_or_set_is_no_throttling(tmp_path: Path) -> None:
    _, _, evidence = watched(tmp_path, QUIET, QUIET | {"throttles": 1 | 2}, QUIET)
    assert doubts(evidence) == ()


def test_what_a_card_does_not_report_is_left_out(tmp_path: Path) -> None:
    facts, free_mb, evidence = watched(tmp_path, {"sm_mhz": 900}, {"sm_mhz": 900})
    assert "memory_mb" not in facts[0]
    assert free_mb == [None]
    assert set(evidence) == {"gpu_looks", "gpu_sm_mhz_before", "gpu_sm_mhz_after", "gpu_sm_mhz_min"}


def test_where_not_even_the_own_process_is_listed_nothing_is_known_of_others(tmp_path: Path) -> None:
    _, _, evidence = watched(tmp_path, QUIET | {"processes": 0}, QUIET | {"processes": 0})
    assert "gpu_foreign_processes" not in evidence


@pytest.mark.parametrize(
    ("visible", "labels"), [(None, ["2 GPUs (H100)"]), ("GPU-fake-1", ["1 GPU (H100)"]), ("-1", [])]
)
def test_this_machine_offers_its_cards_by_rays_name_of_them(
    tmp_path: Path, visible: str | None, labels: list[str]
) -> None:
    env = fake_nvml.environment(tmp_path, QUIET)
    env.pop("CUDA_VISIBLE_DEVICES", None)
    env |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    command = [sys.executable, "-c", "from sweeps.machine.this_machine import this_node; print(this_node().kind)"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip().split(", ")[1:] == labels


TIMED = """
import json, os, sys
import tensorflow as tf
from sweeps.tasks import benchmark
from tests.support.machine.fake_nvml import QUIET, write
from tracking.record import Trial
from tracking.schema.device import Device
from tracking.schema.protocols import Classic

# TensorFlow sees no GPU whose memory it could count.
tf.config.experimental.reset_memory_stats = lambda name: None
tf.config.experimental.get_memory_info = lambda name: {"peak": 3 * 2**20}
steps = 0

def step():
    global steps
    steps += 1
    write(os.environ["FAKE_NVML"], QUIET | {"energy_mj": 1_000_000 + 7000 * steps})

protocol = Classic(burn_in=2, steps=10)
trial = Trial(
    model="tiny", batch=14, compile="eager", protocol=protocol, device=Device(name="gpu", kind="gpu", gpus=1)
)
measured = benchmark.time_pass("forward", step, trial)
print("\\n" + json.dumps([measured.evidence, measured.peak_device_mb]))
"""


def test_a_timed_pass_has_what_its_card_reported(tmp_path: Path) -> None:
    env = fake_nvml.environment(tmp_path, QUIET) | {"CUDA_VISIBLE_DEVICES": "0"}
    done = subprocess.run([sys.executable, "-c", TIMED], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    evidence, peak_device_mb = json.loads(done.stdout.splitlines()[-1])
    assert evidence["gpu_sm_mhz_before"] == 1980
    assert evidence["gpu_foreign_processes"] == 0
    assert evidence["gpu_energy_j"] == pytest.approx(70)  # of the ten steps, at 7 J
    assert evidence["gpu_energy_j_per_image"] == pytest.approx(0.5)
    assert peak_device_mb == 3


def test_without_a_driver_there_are_no_cards() -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has an NVIDIA driver")
    assert visible_cards() == []
