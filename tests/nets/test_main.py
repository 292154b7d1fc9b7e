from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "nets", *words], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_prints_the_table_and_nothing_else() -> None:
    done = run("alexnet_conv", "batch=4", "lrn=true")
    assert (done.returncode, done.stderr) == (0, "")
    assert "alexnet_conv, batch 4" in done.stdout
    [conv5] = [line for line in done.stdout.splitlines() if "conv5" in line]
    assert [cell.strip() for cell in conv5.split("│")[1:-1]] == [
        *("conv5", "Conv2D", "4x13x13x256", "590,080", "0.7978", "0.69")
    ]
    assert "lrn1" in done.stdout
    assert "2,469,696 trainable and 0 other parameters" in done.stdout


def test_lists_the_names() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "vgg16\n" in done.stdout
    assert "[batch=N]" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["vgg17"], "No net is named 'vgg17'. Did you mean"),
        (["vgg16", "batch=0"], "expected batch to be a positive integer. Received: batch=0"),
        (["vgg16", "batch=true"], "Received: batch=True"),
        (["vgg16", "num_classes=ten"], "expected num_classes to be int. Received: num_classes='ten'"),
        (["vgg16", "4"], "expected argument=value. Received: 4"),
        (["--help"], "expected python -m nets NAME"),
        (["MobileNetV2", "image_size=7"], "at least 32x32"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], sentence: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
