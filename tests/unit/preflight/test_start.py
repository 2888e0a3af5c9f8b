"""Test the checks of the hardware at a start: at once, and an accelerator that is late only warns."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from supervisor.plan.loader import load_plan
from supervisor.preflight import start
from supervisor.preflight.machine import Check, Level, ok

CPU_PLAN = load_plan("smoke").plan
PLAN = CPU_PLAN.model_copy(update={"config": {**CPU_PLAN.config, "device": "auto"}})


def answer_with(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let a program stand in for the one that loads torch."""
    monkeypatch.setattr(start, "_PROBE", program)


@pytest.fixture(autouse=True)
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "check_temperature", lambda: ok("temperature", "61 C is the hottest now"))


@pytest.mark.parametrize(
    ("program", "level", "words"),
    [
        ('print(\'{"devices": ["cuda"]}\')', Level.OK, "cuda computes"),
        ("print('{\"devices\": []}')", Level.WARNING, "trials run on the CPU"),
        ("raise SystemExit('CUDA error: an illegal address')", Level.ERROR, "an illegal address"),
        ("import time; time.sleep(600)", Level.WARNING, "no answer within"),
    ],
)
def test_a_start_hears_of_accelerator_and_temperature(
    monkeypatch: pytest.MonkeyPatch, program: str, level: Level, words: str
) -> None:
    answer_with(monkeypatch, program)
    within_s = 1.0 if "sleep" in program else 60.0
    temperature, accelerator = start.check_hardware(PLAN, within_s)
    assert (temperature.name, accelerator.level) == ("temperature", level)
    assert words in accelerator.detail


def test_for_check_an_accelerator_without_an_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, "import time; time.sleep(600)")
    assert start.check_accelerator(PLAN, 1.0).level is Level.ERROR


def test_a_process_that_no_signal_ends_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class InTheKernel(subprocess.Popen[str]):
        def kill(self) -> None:
            pass

    program = "import sys, time; sys.stdout.close(); sys.stderr.close(); [time.sleep(0.01) for _ in range(60_000)]"
    answer_with(monkeypatch, program)
    monkeypatch.setattr(start, "KILLED_WITHIN_S", 0.0)
    left: list[InTheKernel] = []

    def keep(*arguments: Any, **keywords: Any) -> InTheKernel:
        left.append(InTheKernel(*arguments, **keywords))
        return left[-1]

    monkeypatch.setattr(subprocess, "Popen", keep)
    assert start.check_accelerator(PLAN, 1.0, Level.WARNING).level is Level.WARNING
    (process,) = left
    assert process.poll() is None, "it was not waited for"
    process.terminate()
    process.communicate()


def test_a_plan_for_the_cpu_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(subprocess, "Popen", fail)
    assert [check.level for check in start.check_hardware(CPU_PLAN)] == [Level.OK, Level.OK]


def test_the_two_checks_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other; one after the other they would never end."""
    import threading

    both = threading.Barrier(2)

    def waiting(*_: Any) -> Check:
        both.wait(60.0)
        return ok("x", "")

    monkeypatch.setattr(start, "check_temperature", waiting)
    monkeypatch.setattr(start, "check_accelerator", waiting)
    assert len(start.check_hardware(PLAN)) == 2
