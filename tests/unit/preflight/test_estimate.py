"""Estimates of an experiment: memory decides, time follows budget, rows, cores and pruner."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight import estimate, training_time

GIB = 2**30
NUMBERS = ("concurrency=2", "resources.cpu=1", "hours=null")
"""No `auto`, and no hours that bound the time."""
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "quadratic.yaml"


def dataset(folder: Path, rows: int = 5_000) -> str:
    """Write a dataset's manifest; the estimates read nothing else of it."""
    from training.data.manifest import ProcessedManifest, write_manifest

    path = folder / "SP500_dataset_a25.parquet"
    features = tuple(f"f{index}" for index in range(25))
    manifest = ProcessedManifest(
        ticker="SP500", tier="a25", file=path.name, sha256="0" * 64, rows=rows, first_date="1999-01-04",
        last_date="2018-12-31", columns=features, features=features, feature_version=1, source="test",
        source_sha256="0" * 64,
    )  # fmt: skip
    write_manifest(manifest, path.with_suffix(".json"))
    return str(path)


def phase6a(only: str, dataset_file: str | None = None, *sets: str) -> ExperimentSpec:
    return expand(load_plan("phase6a", [*NUMBERS, *sets]).plan, 25, dataset_file, only=only)[0]


def needed_bytes(spec: ExperimentSpec) -> int:
    needed = estimate.estimate(spec, 0, 1, 25).smallest_bytes
    assert needed is not None
    return needed


def test_an_experiment_that_cannot_fit_reports_needed_and_available_memory() -> None:
    needed = needed_bytes(phase6a("2B"))
    assert needed > 12 * GIB, "2B weights, gradients and two moments in float32 are 30 GB, less a quarter"
    reason = estimate.misfit(phase6a("2B"), 8 * GIB, 25)
    assert reason is not None
    assert f"{needed / GIB:.1f} GiB" in reason
    assert "8.0 GiB available" in reason


def test_an_experiment_fits_from_exactly_the_needed_bytes() -> None:
    needed = needed_bytes(phase6a("200M"))
    assert estimate.misfit(phase6a("200M"), needed, 25) is None
    assert estimate.misfit(phase6a("200M"), needed - 1, 25) is not None


def test_the_width_is_read_from_the_datasets_manifest(tmp_path: Path) -> None:
    spec = phase6a("200M", dataset(tmp_path))
    assert estimate.estimate(spec, GIB, 1) == estimate.estimate(spec, GIB, 1, 25)


def test_unknown_figures_are_called_unknown_and_skip_nothing() -> None:
    users = expand(load_plan(EXAMPLE).plan)[0]
    assert estimate.misfit(users, 1) is None
    assert estimate.estimate(users, GIB, 2).most_seconds is None
    on_gpu = phase6a("2B", None, "resources.gpu=1")
    assert estimate.misfit(on_gpu, 1, 25) is None, "the host's memory does not decide about a GPU's"
    assert "unknown" in estimate.dry_run_table([users])
    missing = phase6a("2M", "/nowhere/x.parquet")
    assert estimate.estimate(missing, GIB, 2).architectures is None


def test_time_grows_with_budget_and_rows_and_shrinks_with_cores(tmp_path: Path) -> None:
    file = dataset(tmp_path)
    small, large = (estimate.estimate(phase6a(budget, file), 32 * GIB, 2) for budget in ("2M", "20M"))
    alone = estimate.estimate(phase6a("2M", file), 32 * GIB, 1)
    assert small.most_seconds is not None
    assert large.most_seconds is not None
    assert alone.most_seconds is not None
    assert large.most_seconds > 3 * small.most_seconds
    assert alone.most_seconds > 1.5 * small.most_seconds
    (tmp_path / "more").mkdir()
    longer = estimate.estimate(phase6a("2M", dataset(tmp_path / "more", 10_000)), 32 * GIB, 2)
    assert longer.most_seconds is not None
    assert longer.most_seconds > 1.8 * small.most_seconds


def test_max_hours_bounds_the_time(tmp_path: Path) -> None:
    bounded = estimate.estimate(phase6a("20M", dataset(tmp_path), "max_hours=1"), 32 * GIB, 2)
    assert bounded.most_seconds == 3600


@pytest.mark.parametrize(
    ("pruner", "max_epochs", "expected"),
    [
        ("{kind: none}", 50, 50),
        ("{kind: median, grace_period: 10}", 50, 30),
        ("{kind: asha, grace_period: 5, reduction_factor: 3}", 45, 5 + 10 / 3 + 30 / 9),
        ("{kind: asha, grace_period: 50}", 50, 50),
        ("{kind: median, grace_period: 10}", 4, 4),
    ],
)
def test_expected_epochs_follow_the_pruners_rungs(pruner: str, max_epochs: int, expected: float) -> None:
    sets = [f"pruner={pruner}", f"max_epochs={max_epochs}", "finalize=null"]
    spec = expand(load_plan("phase6a", sets).plan, 25, only="2M")[0]
    assert training_time.searched_epochs(spec) == pytest.approx(expected)


def test_trials_after_the_search_run_to_their_end_and_earlier_folds_cost_less(tmp_path: Path) -> None:
    spec = phase6a("2M", dataset(tmp_path), "concurrency=1", "config.split={kind: folds}")
    assert training_time.trials(spec) == {"search": 32, "final": 12, "walk-forward": 6}
    likely = estimate.estimate(spec, 32 * GIB, 2).likely_by_phase
    assert likely is not None
    final, forward, search = (likely[name] for name in ("final", "walk-forward", "search"))
    assert 0.7 < (forward / 6) / (final / 12) < 0.85, "46.7 and 68.3 of 90 % of the days, less those of the pairs"
    assert search / 32 < final / 12, "the pruner ends some"
    table = estimate.dry_run_table([spec], cores=2)
    assert "of these trials 32 search (likely" in table
    assert "12 final (likely" in table
    assert "6 walk-forward (likely" in table
    assert " 32 search + 12 final + 6 walk-forward " in table.splitlines()[1]


def test_a_search_with_folds_costs_no_more_than_one_with_a_single_block(tmp_path: Path) -> None:
    file = dataset(tmp_path)
    of = {
        kind: estimate.estimate(
            phase6a("2M", file, "finalize=null", f"config.split={{kind: {kind}}}"), 32 * GIB, 2
        ).most_seconds
        for kind in ("folds", "contiguous")
    }
    assert of["folds"] is not None
    assert of["contiguous"] is not None
    assert of["folds"] <= of["contiguous"]


def test_the_table_has_each_experiment_the_skipped_ones_and_the_basis_of_its_figures(tmp_path: Path) -> None:
    specs = expand(load_plan("phase6a", NUMBERS).plan, 25, dataset(tmp_path))
    table = estimate.dry_run_table(specs, available_bytes=8 * GIB, cores=2)
    rows = {line.split()[0]: line for line in table.splitlines() if "-h" in line}
    assert set(rows) == {spec.name for spec in specs}
    assert "no: skipped" in rows["2B-h1"]
    assert "no: skipped" not in rows["2M-h1"]
    assert "12 experiments, 600 trials" in table
    assert "for 9 of them" in table
    assert specs[0].finalize is not None
    final = specs[0].finalize.top * specs[0].finalize.seeds
    assert f" search + {final} final " in rows["2M-h1"]
    assert "final trials train the best configurations of the search again" in table
    assert "likely = less what the pruner saves" in table


def test_an_experiment_that_fits_in_part_is_not_skipped(tmp_path: Path) -> None:
    spec = phase6a("200M", dataset(tmp_path))
    least = estimate.estimate(spec, 0, 2)
    assert least.smallest_bytes is not None
    row = estimate.estimate(spec, int(least.smallest_bytes * 1.1), 2)
    assert row.fitting is not None
    assert row.architectures is not None
    assert 0 < row.fitting < row.architectures
    table = estimate.dry_run_table([spec], available_bytes=int(least.smallest_bytes * 1.1), cores=2)
    assert f"{row.fitting} of {row.architectures}" in table
    assert "refused one by one" in table


def test_an_experiment_with_fixed_ordinals_has_one_architecture() -> None:
    sets = ["config.shape_rank=3", "config.heads_log2=2", "enqueue=[]"]
    text = load_plan("smoke").text.replace("  shape_rank: {type: grid, axis: shape_rank}\n", "")
    text = text.replace("  heads_log2: {type: grid, axis: heads_log2}\n", "")
    from supervisor.plan.loader import parse_plan

    spec = expand(parse_plan(text, "x.yaml", sets=sets).plan, 25)[0]
    assert estimate.estimate(spec, GIB, 2, 25).architectures == 1


@pytest.mark.parametrize(("sets", "cell"), [(["finalize=null"], " 6 "), (["max_trials=5"], " 3 search + 2 final ")])
def test_the_dry_run_says_how_many_trials_search(sets: list[str], cell: str) -> None:
    specs = expand(load_plan("smoke", ["finalize={top: 1, seeds: 2}", *sets]).plan, 25)
    assert cell in estimate.dry_run_table(specs).splitlines()[1]
