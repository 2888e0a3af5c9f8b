"""Read a thousand malformed files: each is refused with a cure, or read correctly.

None of them may end in an exception of another library, change a file, or take memory without bound.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import random
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.trial.heartbeat import Heartbeat, Worker, read_heartbeat, trials_of_workers
from actors.watchdog.state_file import read_state
from supervisor.audit import evidence, invariants, maintenance, rebuild
from supervisor.audit import evidence as audit_evidence
from supervisor.audit.hash_chain import digest
from supervisor.audit.log import AuditLog, open_audit_log
from supervisor.cli.show import tail
from supervisor.cli.watch import last_view
from supervisor.clock import Clock, FakeClock, Now
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import PlanError, SweepError
from supervisor.governor.ladder import decide
from supervisor.governor.policy import Policy
from supervisor.home import Home
from supervisor.plan import yaml_reader
from supervisor.plan.loader import load_plan
from supervisor.processes.identity import started_at
from supervisor.sensors.reading import Kind, Reading
from supervisor.store.database import Store, read_only
from supervisor.store.run_writer import RunWriter, create_run
from tests.unit.audit.broken_files import broken, retyped
from tests.unit.audit.rebuild_home import lived
from training.checkpoint import read_checkpoint, write_checkpoint
from training.data.manifest import ProcessedManifest, read_manifest, write_manifest
from training.errors import TrainingError

PLANS = Path(__file__).resolve().parents[3] / "tune_configs"
MIB = 1 << 20


def seeds(count: int) -> pytest.MarkDecorator:
    """Return so many seeds; the quick tests take the first third."""
    return pytest.mark.parametrize(
        "seed", [pytest.param(seed, marks=[] if seed < count // 3 else pytest.mark.slow) for seed in range(count)]
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused_or_read(read: Callable[[], object], *ours: type[Exception]) -> bool:
    """Return whether it was refused. Any other exception fails the test."""
    try:
        read()
    except ours as error:
        text = str(error)
    else:
        return False
    assert text.strip()
    return True


# Plans


@seeds(150)
def test_a_broken_plan_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    file = tmp_path / "mine.yaml"
    source = rng.choice(sorted(PLANS.glob("*.yaml"))).read_bytes()
    file.write_bytes(broken(rng, source))
    before = contents(tmp_path)
    refused_or_read(lambda: load_plan(file), PlanError)
    assert contents(tmp_path) == before


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMBS = {
    "a billion laughs": LAUGHS,
    "a merge of itself": "a: &a\n  <<: *a\n",
    "a tag that makes objects": "name: !!python/object/apply:os.system ['true']\n",
    "a tag of its own": "name: !mine x\n",
    "deeper than any plan": "{a: " * 5000 + "}" * 5000,
    "lists without end": "[" * 20_000,
    "a number without end": f"max_trials: {'9' * 50_000}\n",
    "a float without end": f"max_trials: 1e{'9' * 100}\n",
    "a name without end": f"name: {'x' * (MIB // 20)}\n",
    "two megabytes": "#" * (2 * MIB),
    "a key twice": "name: a\nname: b\n",
    "a key that is a list": "? [a]\n: b\n",
    "two documents": "name: a\n---\nname: b\n",
    "a sign that no file can hold": 'name: "a\\0b"\n',
    "half a pair": 'name: "\\ud800"\n',
    "an escape beyond Unicode": 'name: "\\UFFFFFFFF"\n',
    "many values": "a: [" + "1, " * 25_000 + "]\n",
    "a thousand errors": "".join(f"k{n}: {n}\n" for n in range(1000)),
    "a matrix without end": "name: x\nmatrix: {a: [" + "1, " * 2500 + "], b: [" + "1, " * 2500 + "]}\n",
    "tabs": "name:\tx\n\tmax_trials: 1\n",
    "dates and sexagesimals": "name: 2026-01-01\nmax_trials: 60:30\n",
}  # fmt: skip


SLOW_BOMBS = {"many values"}
"""Those that take seconds to read while memory is traced; test_yaml_reader counts values, too."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW_BOMBS else ()) for name in BOMBS]
)
def test_a_plan_that_expands_without_bound_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "bomb.yaml"
    file.write_text(BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(PlanError) as error:
            load_plan(file)
        assert tracemalloc.get_traced_memory()[1] < 100 * MIB
    finally:
        tracemalloc.stop()
    assert len(error.value.render()) < 20_000
    assert str(file) in error.value.message


@seeds(60)
def test_a_plan_of_wrong_types_is_refused_with_a_cure(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    file = tmp_path / "mine.yaml"
    plan = yaml_reader.parse(rng.choice(sorted(PLANS.glob("*.yaml"))).read_text(), "a plan").value
    # JSON is YAML; NaN and half a pair are in neither.
    file.write_text(json.dumps(retyped(rng, plan)))
    refused_or_read(lambda: load_plan(file), PlanError)


# Datasets and checkpoints

MANIFEST = ProcessedManifest(
    "SPX", "a25", "SPX_dataset_a25.parquet", "0" * 64, 100, "2020-01-01", "2020-06-01", ("close",), ("close",), 1,
    "raw", "1" * 64,
)  # fmt: skip


@seeds(120)
def test_a_broken_manifest_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    file = tmp_path / "SPX_dataset_a25.json"
    write_manifest(MANIFEST, file)
    whole = file.read_bytes()
    file.write_bytes(broken(rng, whole) if seed % 2 else json.dumps(retyped(rng, json.loads(whole))).encode())
    before = contents(tmp_path)
    refused_or_read(lambda: read_manifest(file), TrainingError)
    assert contents(tmp_path) == before


def saved(state: object) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


class Runs:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/a-checkpoint-ran-this"),))


OTHERS = (
    saved({"schema": 2, "x": Runs()}), pickle.dumps(Runs()), pickle.dumps({"schema": 2}), saved([1, 2]),
    saved({"schema": 99}),
    saved({"schema": 2, "when": torch.nn.Linear(1, 1)}), b"", b"PK\x03\x04", b"cos\nsystem\n(S'true'\ntR.", saved(None),
)  # fmt: skip


@seeds(150)
def test_a_broken_checkpoint_is_refused(tmp_path: Path, seed: int) -> None:
    """Damaged anywhere, or damaged with a new checksum: never accepted, never executed."""
    rng = random.Random(seed)
    file = tmp_path / "checkpoint-1.pt"
    write_checkpoint(file, {"weights": torch.arange(100.0), "epoch": 3, "names": ["a", "b"]})
    whole = file.read_bytes()
    body = whole[: -evidence.TRAILER_BYTES]
    if seed % 3 == 0:
        made = broken(rng, whole)
    else:
        made = broken(rng, body) if seed % 3 == 1 else rng.choice(OTHERS)
        made += evidence.MAGIC + hashlib.sha256(made).digest()
    file.write_bytes(made)
    if made == whole:
        return
    refused = refused_or_read(lambda: read_checkpoint(file), TrainingError)
    assert refused or seed % 3 == 1, "a changed file was accepted"
    assert refused or not evidence.checkpoint_fault(file)
    assert seed % 3 != 0 or evidence.checkpoint_fault(file)
    assert not Path("/tmp/a-checkpoint-ran-this").exists()
    assert file.read_bytes() == made


# Stores and logs


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Make a home with a run at work, and its log in two parts."""
    home = Home(tmp_path_factory.mktemp("sound"))
    for each in (home.state, home.logs, home.runs):
        each.mkdir()
    store = Store(home.store, Clock())
    specs = [{"name": n, "mode": "min", "max_trials": 3, "enqueue": [], "warm_start": None} for n in ("2M-h1", "x")]
    create_run(
        store,
        "p-1",
        plan="p",
        fingerprint="f",
        source="built-in",
        plan_text="name: p\n",
        hardware={},
        data={},
        specs=specs,
    )
    log, _ = open_audit_log(home.audit_log("p"), store)
    lived(RunWriter(store, "p-1"))
    log.catch_up(store, "p")
    log._rotate()
    writer = RunWriter(store, "p-1")
    writer.move_experiment("2M-h1", ProcessState.PAUSED)
    for _ in range(5):
        writer.record("drill.started", name="heat", duration_s=1.0, node=None, drill=True)
    log.catch_up(store, "p")
    log.close()
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return home


def copy_of(home: Home, folder: Path) -> Home:
    made = Home(folder)
    for path, content in contents(home.root).items():
        target = folder / Path(path).relative_to(home.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    made.runs.mkdir(exist_ok=True)
    return made


def forged(rng: random.Random, lines: bytes) -> bytes:
    """Return the lines with one value of another type, in a chain that is whole again."""
    records = [json.loads(line) for line in lines.splitlines()]
    place, before = rng.randrange(len(records)), records[0]["prev"]
    records[place] = retyped(rng, records[place])
    made = []
    for record in records:
        made.append(json.dumps({**record, "prev": before} if isinstance(record, dict) else record).encode() + b"\n")
        before = digest(made[-1])
    return b"".join(made)


@seeds(200)
def test_a_broken_log_is_repaired_or_refused(sound: Home, tmp_path: Path, seed: int) -> None:
    """Read the log by the checker, `repair`, `tail`, the daemon's opening and a rebuild."""
    rng, home = random.Random(seed), copy_of(sound, tmp_path)
    path = home.audit_log("p")
    part = path.with_name(f"{path.name}.1.gz")
    match seed % 4:
        case 0:
            path.write_bytes(broken(rng, path.read_bytes()))
        case 1:
            part.write_bytes(broken(rng, part.read_bytes()))
        case 2:
            part.write_bytes(gzip.compress(broken(rng, gzip.decompress(part.read_bytes()))))
        case _:
            whole = gzip.decompress(part.read_bytes()) + path.read_bytes()
            part.unlink()
            path.write_bytes(forged(rng, whole))
    before = contents(tmp_path)
    with read_only(home.store) as connection:
        evidence = audit_evidence.gather(home, connection, "p")
    assert len(invariants.render(evidence, invariants.check(evidence)))
    refused_or_read(lambda: maintenance.examine(home, Clock()), SweepError)
    with path.open("rb") as file:
        for line in tail.last_lines(file, 50):
            if (record := tail.parse(line)) is not None:
                assert isinstance(tail.pretty(record, datetime.now(UTC)), str)
    assert contents(tmp_path) == before
    refused_or_read(lambda: AuditLog(path).close(), SweepError)
    kept = path.read_bytes()
    # Only what follows the last line's end may have gone.
    assert before[str(path)].startswith(kept)
    assert b"\n" not in before[str(path)][len(kept) :]
    home.store.unlink()
    refused_or_read(lambda: rebuild.open_or_rebuild(home, Clock())[0].close(), SweepError)
    assert path.read_bytes() == kept


@seeds(120)
def test_a_broken_store_is_rebuilt_or_refused(sound: Home, tmp_path: Path, seed: int) -> None:
    """The old store is kept; the outcome is a whole store or an error of this project."""
    rng, home = random.Random(seed), copy_of(sound, tmp_path)
    home.store.write_bytes(broken(rng, home.store.read_bytes()))
    damaged = home.store.read_bytes()
    refused_or_read(lambda: last_view(home), SweepError)
    assert home.store.read_bytes() == damaged
    try:
        store, rebuilt = rebuild.open_or_rebuild(home, Clock())
    except SweepError as error:
        text = error.message
    else:
        with closing(store.connection):
            text = store.rows("SELECT state FROM run")[0]["state"]
        if rebuilt is not None:
            assert rebuilt.aside is not None
            # An empty file counts as a new store: SQLite begins one in it.
            assert Path(rebuilt.aside).read_bytes() == damaged or damaged == b""
    assert text


# The files of a node beside its trials


def readings(now: Now) -> list[Reading]:
    return [Reading("cpu", Kind.TEMPERATURE, "cpu", 60.0 + now.mono_s % 40, "celsius", now.mono_s, now.wall_s, "fake")]


@seeds(120)
def test_a_broken_state_of_the_governor_is_no_state(tmp_path: Path, seed: int) -> None:
    """A governor that starts with it decides as one with a new state."""
    rng, clock = random.Random(seed), FakeClock()
    file, policy = tmp_path / "memory", Policy()
    memory = read_state(file, Now.of(clock))
    for _ in range(30):
        clock.now_s += 2.0
        now = Now.of(clock)
        _, memory, _, *_ = decide(readings(now), policy, memory, now)
    whole = json.dumps(memory.to_json())
    made = broken(rng, whole.encode()) if seed % 3 == 0 else json.dumps(retyped(rng, json.loads(whole))).encode()
    file.write_bytes(made)
    now = Now.of(clock)
    restored = read_state(file, now)
    for _ in range(5):
        clock.now_s += 2.0
        now = Now.of(clock)
        command, restored, _, *_ = decide(readings(now), policy, restored, now)
        command.to_json()
    json.dumps(restored.to_json())
    assert file.read_bytes() == made


@seeds(60)
def test_a_broken_heartbeat_is_no_heartbeat(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    Heartbeat(tmp_path, Worker("x", 1, 1, "/tmp", 4242, "t"), in_batches=True)
    (file,) = tmp_path.glob("*.heartbeat")
    whole = file.read_bytes()
    text = json.dumps(retyped(rng, json.loads(whole[384:]))).encode()
    made = broken(rng, whole) if seed % 2 else (whole[:384] + text).ljust(-(-(384 + len(text)) // 8) * 8)
    file.write_bytes(made)
    found = read_heartbeat(file)
    assert found is None or (type(found[0].pid), type(found[0].number), type(found[0].folder)) == (int, int, str)


@seeds(40)
def test_broken_heartbeats_do_not_hide_the_others(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    worker = Worker("x", 1, 1, "/tmp", os.getpid(), started_at(os.getpid()))
    Heartbeat(tmp_path, worker, in_batches=True)
    (whole,) = (file.read_bytes() for file in tmp_path.iterdir())
    for name in ("²", "1" * 30, "x", "-1", "0"):
        (tmp_path / f"{name}.heartbeat").write_bytes(broken(rng, whole[:384] + b"{}"))
    (tmp_path / "7.heartbeat").mkdir()
    (tmp_path / "9.heartbeat").write_bytes(b"x" * (5 * MIB))
    assert [worker.trial for worker in trials_of_workers(tmp_path).values()] == ["x/1"]
