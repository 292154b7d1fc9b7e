"""Signals in a process of their own, which the second of them ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SETTING = """
import signal
from sweeps.process.interrupts import Interrupts

def say(word): print(word, end=" ", flush=True)
interrupts = Interrupts()
interrupts.install()
"""
ONE = """
try:
    signal.raise_signal(signal.{first})
    say("deaf")
except KeyboardInterrupt:
    say("interrupted")
"""
TWO = """
try:
    signal.raise_signal(signal.{second})
finally:
    say("in order")
"""
HELD = """
try:
    with interrupts.held():
        signal.raise_signal(signal.{first})
        say("whole")
    say("deaf")
except KeyboardInterrupt:
    say("interrupted")
with interrupts.held():
    say("once")
"""


@pytest.mark.parametrize(
    ("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM"), ("SIGHUP", "SIGTERM")]
)
@pytest.mark.parametrize(
    ("code", "exit_code", "printed"),
    [
        (ONE, 0, "interrupted "),
        (ONE + TWO, 130, "interrupted "),
        (HELD, 0, "whole interrupted once "),
        (HELD + TWO, 130, "whole interrupted once "),
    ],
    ids=["one", "two", "held", "held and two"],
)
def test_the_first_ends_in_order_and_the_second_at_once(
    first: str, second: str, code: str, exit_code: int, printed: str
) -> None:
    command = [sys.executable, "-c", SETTING + code.format(first=first, second=second)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (exit_code, printed), done.stderr


def test_under_nohup_a_closed_terminal_is_nothing() -> None:
    code = SETTING + "interrupts.install()\n" + ONE.format(first="SIGHUP") + ONE.format(first="SIGTERM")
    command = ["nohup", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "deaf interrupted "), done.stderr


def test_an_import_gives_its_lock_back_before_it_is_interrupted() -> None:
    code = SETTING + (
        "import threading, time\n"
        "code = compile('import _imp; _imp.acquire_lock(); raise_signal(number); _imp.release_lock()',"
        " '<frozen importlib._bootstrap>', 'exec')\n"
        "try:\n"
        "    exec(code, {'raise_signal': signal.raise_signal, 'number': signal.SIGINT})\n"
        "    say('whole')\n"
        "    time.sleep(30)\n"
        "    say('deaf')\n"
        "except KeyboardInterrupt:\n"
        "    say('interrupted')\n"
        "other = threading.Thread(target=lambda: __import__('wave') and say('imported'), daemon=True)\n"
        "other.start()\n"
        "other.join(20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "whole interrupted imported ", done.stderr
