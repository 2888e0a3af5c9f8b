"""Loading plans: an error has file, line, key and remedy; --set follows the same rules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import PlanError, UnknownPlan
from supervisor.plan import loader
from supervisor.plan.loader import LoadedPlan, load_plan, parse_plan, plan_names
from supervisor.plan.problem import nearest
from tests.waits import NET_S

MINIMAL = """\
name: mine
trainable: my.module:f
matrix:
  size: [small, large]
  depth: [1, 2]
config:
  steps: 3
space:
  x: {type: float, low: 0.1, high: 10, log: true}
  n: {type: int, low: 1, high: 9, step: 2}
  c: {type: categorical, choices: [a, 1, null]}
max_trials: 4
max_epochs: 5
"""


def load(text: str, *sets: str) -> LoadedPlan:
    return parse_plan(text, "mine.yaml", sets=sets)


def refused(text: str, *sets: str) -> PlanError:
    with pytest.raises(PlanError) as caught:
        load(text, *sets)
    return caught.value


def with_line(addition: str) -> tuple[str, int]:
    """Append lines to MINIMAL; also return the number of the first of them."""
    return MINIMAL + addition + "\n", MINIMAL.count("\n") + 1


@pytest.mark.parametrize(
    ("addition", "offset", "key", "said", "remedy"),
    [
        ("max_trails: 4", 0, "max_trails", "unknown key", "did you mean max_trials?"),
        ("concurency: 2", 0, "concurency", "unknown key", "did you mean concurrency?"),
        ("zzzzzz: 2", 0, "zzzzzz", "unknown key", "keys: "),
        ("resources: {cpus: 2}", 0, "resources.cpus", "unknown key", "did you mean cpu?"),
        ("concurrency: two", 0, "concurrency", "must be a whole number", None),
        ("concurrency: automatic", 0, "concurrency", "must be a whole number", None),
        ("concurrency: 1.5", 0, "concurrency", "must be a whole number", None),
        ("concurrency: 0", 0, "concurrency", "must be at least 1, not 0", None),
        ("concurrency: true", 0, "concurrency", "must be a whole number", None),
        ("mode: mni", 0, "mode", "must be min or max", "did you mean min?"),
        ("sampler: {kind: tpee}", 0, "sampler.kind", "must be tpe, gp or random", "did you mean tpe?"),
        ("pruner: {kind: ahsa}", 0, "pruner.kind", "no such kind ahsa", "did you mean asha?"),
        ("pruner: {grace_period: 1}", 0, "pruner", "has no key that tells its kind", "add the key kind"),
        ("pruner: {kind: asha, grace_period: 9, max_t: 3}", 0, "pruner", "grace_period (9) is above max_t (3)", None),
        ("seed: -1", 0, "seed", "must be at least 0, not -1", None),
        ("resources: 3", 0, "resources", "must be a mapping", None),
        ("max_hours: .5h", 0, "max_hours", "must be a number", None),
        ("data: {tier: a25}", 0, "data.ticker", "is missing", None),
        ("data: {ticker: ../../etc, tier: a25}", 0, "data.ticker", "must be 1 to 16 letters", "data list"),
        ("enqueue:\n  - {x: 1}\n  - {y: 1}", 2, "enqueue.1.y", "y is not in space", "parameters: x, n, c"),
        ("enqueue: [{x: 11}]", 0, "enqueue.0.x", "11 is outside 0.1 .. 10", "take a value"),
        ("enqueue: [{n: 2}]", 0, "enqueue.0.n", "not a step of 2 from 1", "take a value"),
        ("enqueue: [{n: 1.0}]", 0, "enqueue.0.n", "not a whole number", "take a value"),
        ("enqueue: [{x: true}]", 0, "enqueue.0.x", "not a number", "take a value"),
        ("enqueue: [{c: b}]", 0, "enqueue.0.c", "'b' is not one of", "take a value"),
        ("enqueue: [{c: true}]", 0, "enqueue.0.c", "True is not one of", "take a value"),
        ("enqueue: [{c: {quantile: 0.5}}]", 0, "enqueue.0.c", "is not one of", "take a value"),
        ("overrides:\n  - when: {sise: small}\n    set: {max_trials: 2}", 1, "overrides.0.when.sise",
         "the matrix has no axis sise", "did you mean size?"),
        ("overrides:\n  - when: {size: smal}\n    set: {max_trials: 2}", 1, "overrides.0.when.size",
         "the matrix has no size smal", "did you mean small?"),
        ("overrides:\n  - when: {size: small}\n    set: {}", 2, "overrides.0.set", "changes nothing", "name a key"),
        ("overrides:\n  - when: {size: small}\n    set: {max_trails: 2}", 2, "overrides.0.set.max_trails",
         "unknown key", "did you mean max_trials?"),
        ("overrides:\n  - when: {size: small}\n    set:\n      config: {depth: 2}", 3, "overrides.0.set.config.depth",
         "is an axis", "remove it here"),
        ("overrides:\n  - when: {size: small}\n    set:\n      enqueue: [{y: 2}]", 3, "overrides.0.set.enqueue.0.y",
         "y is not in space", "parameters"),
        ("hardware: {perid_s: 3}", 0, "hardware.perid_s", "unknown key", "did you mean period_s?"),
        ("hardware: {period_s: 999}", 0, "hardware.period_s", "expected a number from 0.05 to 60, found 999", None),
        ("hardware: {sensor_script: haet}", 0, "hardware.sensor_script", "no drill haet", "did you mean heat?"),
        ("hardware: {sensor_script: 3}", 0, "hardware.sensor_script", "must be a text", None),
        ("hardware:\n  schedule:\n    hours:\n      mo-fr 9-18: pause", 3, "hardware.schedule.hours.mo-fr 9-18",
         "expected days such as mon", "mon-fri 09:00-18:00: pause"),
        ("hardware:\n  schedule:\n    hours:\n      - mon 09:00-18:00 pause", 3, "hardware.schedule.hours.0",
         "expected", "mon-fri 09:00-18:00: pause"),
        ("hardware:\n  schedule: {zone: Berlin, on_battery: pause}", 1, "hardware.schedule.zone",
         "there is no zone Berlin", "zone: Europe/Berlin"),
    ],
)  # fmt: skip
def test_an_error_has_line_key_and_remedy(addition: str, offset: int, key: str, said: str, remedy: str | None) -> None:
    text, line = with_line(addition)
    error = refused(text)
    assert (error.file, error.line, error.key) == ("mine.yaml", line + offset, key)
    assert said in error.message
    assert remedy is None or (error.remedy is not None and remedy in error.remedy)
    assert error.exit_code == 6


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ("x: {type: float, low: 0.1", "x: {type: float, low: 11", "space.x", "low (11.0) must be below high (10.0)"),
        ("x: {type: float, low: 0.1", "x: {type: float, low: -1", "space.x", "log needs low above 0"),
        ("x: {type: float, low: 0.1", "x: {type: flaot, low: 0.1", "space.x.type", "no such type flaot"),
        ("x: {type: float, low: 0.1", "x: {low: 0.1", "space.x", "has no key that tells its kind"),
        ("x: {type: float, low: 0.1", "x: {type: float, lo: 0.1", "space.x.lo", "unknown key"),
        ("n: {type: int, low: 1", "n: {type: int, low: 10", "space.n", "must not be above"),
        ("n: {type: int, low: 1", "n: {type: int, log: true, low: 1", "space.n", "no step"),
        ("choices: [a, 1, null]", "choices: []", "space.c.choices", "must not be empty"),
        ("choices: [a, 1, null]", "choices: [a, a]", "space.c", "appears twice"),
        ("choices: [a, 1, null]", "choices: [true, 1]", "space.c", "true and 1 are equal to the sampler"),
        ("choices: [a, 1, null]", "choices: [a, 0, 0.0]", "space.c", "0 and 0.0 are equal to the sampler"),
        ("choices: [a, 1, null]", "choices: [[64, 64], [128]]", "space.c.choices", "the choice [64, 64] is a list"),
        ("choices: [a, 1, null]", "choices: [a, {b: 1}]", "space.c.choices", "is a mapping"),
        ("choices: [a, 1, null]", "choices: abc", "space.c.choices", "must be a list"),
        ("n: {type: int", "steps: {type: int", "space.steps", "is also in config"),
        ("n: {type: int", "depth: {type: int", "space.depth", "also an axis of the matrix"),
        ("n: {type: int", "n-1: {type: int", "space.n-1", "not a usable name"),
        ("c: {type: categorical, choices: [a, 1, null]}", "c: {type: grid, axis: shape_rank}", "space.c.type",
         "only trainable patchtst has a grid"),
        ("depth: [1, 2]", "depth: []", "matrix.depth", "must not be empty"),
        ("depth: [1, 2]", "depth: [1, 1]", "matrix.depth", "appears twice"),
        ("depth: [1, 2]", "depth: 1", "matrix.depth", "must be a list"),
        ("size: [small, large]", "size: [../up]", "matrix.size.0", "is not a usable name"),
        ("trainable: my.module:f", "trainable: my.module.f", "trainable", "MODULE:NAME"),
        ("trainable: my.module:f", "trainable: ../x:f", "trainable", "MODULE:NAME"),
        ("name: mine", "name: ../mine", "name", "begin with a letter or digit"),
        ("max_trials: 4\n", "", "max_trials", "is missing"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_described(old: str, new: str, key: str, said: str) -> None:
    assert old in MINIMAL
    error = refused(MINIMAL.replace(old, new))
    assert error.key == key
    assert said in error.message


def test_too_many_experiments_are_refused_before_they_are_made() -> None:
    axes = "\n".join(f"  a{index}: [{', '.join(map(str, range(100)))}]" for index in range(8))
    error = refused(
        MINIMAL.replace("matrix:\n", f"matrix:\n{axes}\n", 1).replace("  size: [small, large]\n  depth: [1, 2]\n", "")
    )
    assert "experiments, at most" in error.message


def test_two_cells_of_one_name_are_refused() -> None:
    text = MINIMAL.replace("  size: [small, large]\n  depth: [1, 2]\n", "  a: [x-y, x]\n  b: [z, y-z]\n")
    assert "would be called x-y-z" in refused(text).message


def test_several_problems_are_in_one_error() -> None:
    error = refused(*with_line("concurrency: 0\nmax_failures: x\nmode: q")[:1])
    assert "must be at least 1" in error.message
    assert "also mine.yaml:15: max_failures" in error.message
    assert "also mine.yaml:16: mode" in error.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"- a\n- b\n", "not a mapping"),
        (b"just words", "not a mapping"),
        (b"\x7fELF\x02\x01\x00\xff\xfe", "not a text file"),
        (b"name: \x00\n", "not a text file"),
        (b"#" * (1024 * 1024 + 1), "larger than"),
    ],
)
def test_a_file_without_a_plan_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(PlanError, match=said) as caught:
        load_plan(path)
    assert str(path) in caught.value.message


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownPlan, match="does not exist"):
        load_plan(tmp_path / "none.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UnknownPlan, match="is not a file"):
        load_plan(str(tmp_path / "folder.yaml"))


@pytest.mark.parametrize("name", ["", "..", "a b", "-x", "x" * 65, "\0"])
def test_an_impossible_plan_name_is_refused(name: str) -> None:
    with pytest.raises(UnknownPlan, match=r"neither a plan's name nor a \.yaml file"):
        load_plan(name)


def test_an_unknown_name_lists_the_plans_and_the_nearest() -> None:
    with pytest.raises(UnknownPlan, match="no plan smok") as caught:
        load_plan("smok")
    assert caught.value.remedy is not None
    assert "did you mean smoke?" in caught.value.remedy
    assert all(name in caught.value.remedy for name in plan_names())


def test_a_users_plan_has_a_folder_and_a_built_in_plan_has_none(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    loaded = load_plan(path)
    assert loaded.folder == tmp_path
    assert loaded.text == MINIMAL
    assert load_plan("smoke").folder is None


def test_a_trace_file_is_relative_to_the_plan_and_a_drill_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL + "hardware: {sensor_script: traces/hot.jsonl}\n")
    assert load_plan(path).sensor_script == str(tmp_path / "traces" / "hot.jsonl")
    assert load_plan(path, ["hardware.sensor_script=heat"]).sensor_script == "heat"
    assert load_plan(path, ["hardware.sensor_script=null"]).sensor_script is None
    monkeypatch.chdir(tmp_path)
    assert load_plan("smoke", ["hardware.sensor_script=hot.jsonl"]).sensor_script == str(tmp_path / "hot.jsonl")


def test_loading_a_plan_loads_no_heavy_library() -> None:
    import subprocess

    code = (
        "import sys; from supervisor.plan.loader import load_plan; from supervisor.plan.expansion import expand;"
        "expand(load_plan('phase6a').plan, 25);"
        "print([m for m in ('ray','torch','numpy','pandas','optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=NET_S)
    assert done.stdout.strip() == "[]"


_LINES = MINIMAL.splitlines()


@given(st.integers(0, len(_LINES) - 1), st.text(max_size=30), st.booleans())
def test_a_plan_with_one_changed_line_loads_or_gives_a_plan_error(at: int, junk: str, replace: bool) -> None:
    lines = list(_LINES)
    lines[at] = junk if replace else lines[at] + junk
    text = "\n".join(lines)
    try:
        loaded = load(text)
    except PlanError:
        return
    assert loaded.text == text


def test_a_plan_may_not_have_the_name_of_a_log_of_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(PlanError, match=r"name: debug is the name of one of the daemon"):
        load_plan(path, ["name=debug"])


def test_no_word_of_the_validation_library_reaches_the_user() -> None:
    """The library talks about strings, patterns and input; a user wrote texts, names and numbers."""
    foreign = ("pattern", "validation", "Input", "input", "string", "tuple", "dictionary", "^")
    for old, new in (
        ("name: mine", "name: 'a b'"), ("trainable: my.module:f", "trainable: quick"),
        ("max_trials: 4", "max_trials: 0"), ("max_trials: 4", "max_trials: 2.5"), ("depth: [1, 2]", "depth: []"),
        ("choices: [a, 1, null]", "choices: []"), ("max_epochs: 5", "max_epochs: 5\nmode: mim"),
        ("max_epochs: 5", "max_epochs: 5\nmetric: ''"),
    ):  # fmt: skip
        assert old in MINIMAL
        said = refused(MINIMAL.replace(old, new)).render()
        assert not [word for word in foreign if word in said], said


def test_a_users_plan_may_not_have_a_built_in_name_but_a_built_in_file_may_be_given_by_path(
    tmp_path: Path,
) -> None:
    """They would share a log, and one would resume the other's run."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(load_plan("smoke").text)
    with pytest.raises(PlanError, match="smoke is the name of a built-in plan") as refusal:
        load_plan(mine)
    assert (refusal.value.key, refusal.value.remedy) == ("name", "choose another, such as my-smoke")
    mine.write_text(load_plan("smoke").text.replace("name: smoke", "name: my-smoke"))
    assert load_plan(mine).plan.name == "my-smoke"
    built_in = Path(loader.__file__).parents[2] / "tune_configs" / "smoke.yaml"
    assert load_plan(built_in).plan.name == "smoke"


def test_a_value_of_two_characters_finds_its_nearest() -> None:
    assert nearest("3M", ["2M", "20M", "200M", "2B"]) == "did you mean 2M?"
    assert nearest("xy", ["2M", "20M"]) == "valid ones: 2M, 20M"
