"""Test the governor of a node by its flag, on a scripted temperature and clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from actors.trial.gate import Gate, Leave
from actors.trial.node_files import LAYOUT, flag_path, node_prefix
from actors.watchdog.changes import Changes
from actors.watchdog.experiment_flag import OperatorCommands
from actors.watchdog.node_governor import MAX_FLAGS, STALLED_MIN_S, NodeGovernor, WatchdogSettings
from supervisor.clock import FakeClock
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.scope import ALL_NODES, trial_scope
from supervisor.sensors.provider import Provider
from supervisor.sensors.reading import Availability, Reading
from supervisor.sensors.scripted import ScriptedProvider, simple_reading

NODE = "n" * 40
CALM = {
    "period_s": 1.0, "fast_period_s": 1.0, "soft_dwell_s": 0, "pause_dwell_s": 0, "hold_min_s": 0, "ease_after_s": 2.0,
    "min_off_s": 0, "release_after_s": 60.0,
}  # fmt: skip
COOL, HOT, CRITICAL = 40.0, 101.0, 107.0


class Bench:
    """A node's governor, its sensor and its clock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.script, self.stamp = folder, FakeClock(), folder / "trace.jsonl", 0
        self.temperature(COOL)
        self.settings = WatchdogSettings(NODE, str(folder / "gate"), CALM, str(self.script), ())
        self.node = self.start()

    def start(self, *more: Provider, **policy: float) -> NodeGovernor:
        def open_providers(script, folders, clock, workers):
            provider = ScriptedProvider.playing(script, clock)
            return [*more, provider], [(provider.name, provider.probe())]

        self.settings = replace(self.settings, policy={**self.settings.policy, **policy})
        self.changes = Changes()
        self.node = NodeGovernor(self.settings, self.changes, self.clock, open_providers)
        return self.node

    def temperature(self, celsius: float) -> None:
        self.script.write_text(f'{{"at_s": 0.0, "celsius": {celsius}}}\n')

    def operator(self, *commands: Command, experiment: str = "e") -> None:
        self.stamp += 1
        self.node.set_operator(experiment, OperatorCommands(commands, self.stamp))

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.clock.sleep(1.0)
            self.node.sample()

    def flag(self, experiment: str = "e") -> tuple[Action, float]:
        flag = flag_path(self.settings.gate, NODE, experiment)
        _, _, action, _, _, lease, _ = LAYOUT.unpack_from(flag.read_bytes())
        return Action(action), lease

    def gate(self, number: int, experiment: str = "e") -> Gate:
        """A trial's gate; a trial that would wait there raises TimeoutError instead."""

        def no_sleep(seconds: float) -> None:
            raise TimeoutError

        flag = flag_path(self.settings.gate, NODE, experiment)
        return Gate(flag, self.clock.mono_s, no_sleep, trial=number, may_be_released=True)


class FailingProvider(Provider):
    """Gives a temperature until `error` is set, then raises it, against the rules."""

    name = "failing"

    def __init__(self) -> None:
        self.error: Exception | None = None

    def probe(self) -> Availability:
        return Availability(True, "it works at first")

    def read(self) -> list[Reading]:
        if self.error is not None:
            raise self.error
        return [replace(simple_reading(COOL), sensor_id="failing:cpu")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def pause(scope: str = ALL_NODES) -> Command:
    return Command(Action.PAUSE, Origin.OPERATOR, "test", scope)


def test_until_a_driver_has_sent_commands_its_trials_wait(bench: Bench) -> None:
    """A watchdog that Ray restarted does not know of an operator's pause."""
    with pytest.raises(TimeoutError):
        bench.gate(5).wait()
    bench.operator()
    assert bench.gate(5).wait() == 0.0
    bench.start()
    with pytest.raises(TimeoutError):
        bench.gate(5).wait()
    bench.operator()
    assert bench.gate(5).wait() == 0.0


def test_a_drivers_commands_hold_only_trials_of_its_own_experiment(bench: Bench) -> None:
    """One that ends makes all its trials leave, and one that asks for memory a trial: both have numbers in common."""
    bench.operator(Command(Action.STOP, Origin.OPERATOR, "the driver ends"))
    bench.operator(pause(trial_scope("f", 6)), experiment="f")
    with pytest.raises(Leave):
        bench.gate(5).wait()
    assert bench.gate(5, "f").wait() == 0.0
    with pytest.raises(TimeoutError):
        bench.gate(6, "f").wait()
    assert [bench.node.closes(name, 5) for name in ("e", "f", "unknown")] == [True, False, True]


def test_the_governor_holds_the_trials_of_all_experiments(bench: Bench) -> None:
    bench.operator()
    bench.operator(experiment="f")
    bench.temperature(HOT)
    bench.start(min_off_s=3600.0)
    bench.operator()
    bench.operator(experiment="f")
    assert (bench.flag()[0], bench.flag("f")[0]) == (Action.PAUSE, Action.PAUSE)


def test_a_node_keeps_the_flags_of_the_drivers_that_sent_commands_last(bench: Bench) -> None:
    for number in range(MAX_FLAGS + 2):
        bench.operator(experiment=f"e{number}")
        bench.operator(experiment="e0")
    lapsed = [f"e{number}" for number in range(MAX_FLAGS + 2) if bench.node.closes(f"e{number}", 1)]
    assert lapsed == ["e1", "e2"]
    assert len(bench.node.operators) == MAX_FLAGS


def test_the_operators_command_is_in_the_flag_when_the_call_returns(bench: Bench) -> None:
    bench.operator(pause())
    assert bench.flag()[0] is Action.PAUSE
    bench.operator()
    assert bench.flag()[0] is Action.RUN


def test_a_command_for_another_node_does_not_count_here(bench: Bench) -> None:
    bench.operator(pause("another"))
    assert bench.flag()[0] is Action.RUN


def test_an_older_command_that_comes_late_changes_nothing(bench: Bench) -> None:
    bench.node.set_operator("e", OperatorCommands((pause(),), 2))
    bench.node.set_operator("e", OperatorCommands((), 1))
    assert bench.flag()[0] is Action.PAUSE


def test_a_pause_of_the_governor_survives_a_restart(bench: Bench) -> None:
    """Its minimum time off is kept, too."""
    bench.temperature(HOT)
    bench.start(min_off_s=3600.0)
    bench.operator()
    assert bench.flag()[0] is Action.PAUSE
    bench.node.close()
    bench.temperature(COOL)
    bench.start()
    bench.operator()
    bench.passes(60)
    assert bench.flag()[0] is Action.PAUSE


def test_an_operators_force_lifts_the_governors_pause_but_not_above_critical(bench: Bench) -> None:
    """It outlives the watchdog: the pause does not come back with the next one."""
    bench.temperature(HOT)
    bench.start(min_off_s=3600.0)
    bench.operator()
    assert bench.flag()[0] is Action.PAUSE
    bench.node.force(600.0)
    assert bench.flag()[0] is Action.THROTTLE
    bench.node.close()
    bench.start()
    bench.operator()
    assert bench.flag()[0] is Action.THROTTLE
    bench.node.close()
    bench.temperature(CRITICAL)
    bench.start()
    bench.operator()
    bench.node.force(600.0)
    assert bench.flag()[0] is Action.PAUSE


def test_the_lease_is_renewed_while_sampling_goes_on_and_not_after(bench: Bench) -> None:
    """A provider that hangs must not leave trials running without a watch."""
    bench.operator()
    bench.clock.sleep(STALLED_MIN_S - 1.0)
    bench.node.renew(None)
    assert bench.flag()[1] == bench.clock.mono_s()
    bench.clock.sleep(2.0)
    bench.node.renew(None)
    assert bench.flag()[1] == bench.clock.mono_s() - 2.0
    bench.node.sample()
    bench.node.renew(None)
    assert bench.flag()[1] == bench.clock.mono_s()


def test_a_closed_one_neither_samples_nor_renews(bench: Bench) -> None:
    bench.operator()
    bench.node.close()
    before = bench.flag()
    bench.passes(5)
    bench.node.renew(None)
    assert bench.flag() == before


def test_a_single_trials_pause_closes_the_gate_for_it_alone_and_a_long_one_frees_its_memory(bench: Bench) -> None:
    bench.operator(pause(trial_scope("e", 5)))
    assert (bench.node.closes("e", 5), bench.node.closes("e", 6)) == (True, False)
    assert bench.gate(6).wait() == 0.0
    with pytest.raises(TimeoutError):
        bench.gate(5).wait()
    bench.passes(61)
    with pytest.raises(Leave):
        bench.gate(5).wait()


def test_a_single_trials_stop_makes_it_leave_at_once_also_beside_a_pause(bench: Bench) -> None:
    """The largest trial is asked for its memory by such a STOP."""
    stop = Command(Action.STOP, Origin.GOVERNOR, "memory at 91 %", trial_scope("e", 5))
    for commands in ((stop,), (stop, pause(trial_scope("e", 5)))):
        bench.operator(*commands)
        with pytest.raises(Leave):
            bench.gate(5).wait()
        assert bench.gate(6).wait() == 0.0
    bench.operator()
    assert bench.gate(5).wait() == 0.0


def test_a_long_pause_of_the_node_frees_the_memory_of_its_trials(bench: Bench) -> None:
    bench.operator(pause())
    with pytest.raises(TimeoutError):
        bench.gate(5).wait()
    bench.passes(61)
    with pytest.raises(Leave):
        bench.gate(5).wait()


def test_a_provider_that_raises_is_named_and_its_sensors_are_absent_while_others_are_read(bench: Bench) -> None:
    provider = FailingProvider()
    bench.start(provider)
    provider.error = KeyError("temp1_input")
    bench.passes(5)
    noted = {(note.kind, note.facts["sensor"]) for _, note in bench.changes.since(0)[1] if "sensor" in note.facts}
    assert {("sensor.hung", "provider:failing"), ("sensor.lost", "failing:cpu")} <= noted
    readings = bench.node.report()["readings"]
    assert [reading["quality"] for reading in readings] == ["error", "ok"]
    provider.error = None
    bench.passes(2)
    assert [reading["quality"] for reading in bench.node.report()["readings"]] == ["ok", "ok"]


@pytest.mark.parametrize("content", ["", '{"schema": 99}'])
def test_a_state_that_cannot_be_used_is_begun_anew(bench: Bench, content: str) -> None:
    Path(f"{node_prefix(bench.settings.gate, NODE)}.state").write_text(content)
    bench.start()
    bench.operator()
    assert bench.flag()[0] is Action.RUN
