"""The data folder: imports are registered, faults are named, and an error changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from tests.unit.training.small_bars import csv_of, some_bars
from training.data.dataset_files import build_dataset, list_data, verify
from training.data.exchange import compare_sessions
from training.data.features import FEATURE_VERSION
from training.data.imports import import_file, import_sample
from training.data.manifest import (
    dataset_path,
    manifest_path,
    raw_path,
    read_manifest,
    read_raw_manifest,
    sha256_of,
    ticker_stem,
    write_manifest,
)
from training.data.tiers import TIERS
from training.errors import BadFile, DatasetError, TrainingError

BARS = Path(__file__).parents[1] / "data" / "bars.csv"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    import_file(BARS, "TEST", tmp_path, calendar=None, now=NOW)
    build_dataset("TEST", "a25", tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_import_is_described_by_its_manifest(data_dir: Path) -> None:
    manifest = read_raw_manifest(raw_path(data_dir, "TEST"))
    assert manifest.sha256 == sha256_of(raw_path(data_dir, "TEST"))
    assert manifest.source_sha256 == sha256_of(BARS)
    assert (manifest.rows, manifest.first_date, manifest.source) == (889, "2001-01-02", "file bars.csv")
    assert manifest.columns == ("open", "high", "low", "close", "volume")
    assert manifest.imported_at == "2026-01-02T03:04:05+00:00"
    assert manifest.missing_sessions is None


def test_a_dataset_is_described_by_its_manifest(data_dir: Path) -> None:
    path = dataset_path(data_dir, "TEST")
    manifest = read_manifest(path)
    frame = pd.read_parquet(path)
    assert path.name == "TEST_dataset_a25.parquet"
    assert (manifest.rows, manifest.num_features) == (len(frame), 25) == (889 - 199, 25)
    assert manifest.features == TIERS["a25"]
    assert manifest.feature_version == FEATURE_VERSION
    assert manifest.source_sha256 == sha256_of(raw_path(data_dir, "TEST"))
    assert manifest.zscore is None  # of inputs that grow with the price it would mean nothing
    assert frame.notna().all(axis=None)


def test_a_stationary_datasets_manifest_has_mean_and_deviation_of_its_train_days(tmp_path: Path) -> None:
    import_sample(tmp_path, now=NOW)
    manifest = build_dataset("SP500", "s28", tmp_path)
    assert (manifest.num_features, manifest.rows) == (28, 4832)
    assert manifest.zscore is not None
    assert len(manifest.zscore["mean"]) == len(manifest.zscore["deviation"]) == 28  # type: ignore[arg-type]


def test_building_twice_gives_the_same_bytes(data_dir: Path) -> None:
    before = contents(data_dir)
    build_dataset("TEST", "a25", data_dir)
    assert contents(data_dir) == before


def test_a_failed_import_changes_nothing(data_dir: Path, tmp_path: Path) -> None:
    before = contents(data_dir)
    bad = data_dir.parent / "bad.csv"
    bad.write_bytes(BARS.read_bytes() + b"1999-01-01,1,1,1,1,1\n")
    with pytest.raises(BadFile, match="earlier date"):
        import_file(bad, "TEST", data_dir)
    assert contents(data_dir) == before


@pytest.mark.parametrize("ticker", ["", "../etc", "A/B", "S P Y", "A..B", "-X", "X" * 30, "^", "A\nB"])
def test_an_invalid_ticker_is_refused_and_cannot_become_a_path(ticker: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not a ticker"):
        import_file(BARS, ticker, tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("ticker", "stem"), [("spy", "SPY"), ("^vix", "VIX"), ("BRK-B", "BRK-B"), ("BTC-USD", "BTC-USD")]
)
def test_a_ticker_names_its_files_in_upper_case_without_caret(ticker: str, stem: str) -> None:
    assert ticker_stem(ticker) == stem


def test_missing_sessions_and_extra_days_are_reported_and_not_filled(tmp_path: Path) -> None:
    manifest = import_file(BARS, "TEST", tmp_path, calendar="XNYS")
    assert manifest.calendar == "XNYS"
    # 2001-01-16 was a session of the exchange that the file lacks; the file has 2001-01-15, a holiday.
    assert "2001-01-16" in manifest.missing_dates
    assert "2001-01-15" in manifest.extra_dates
    assert "2001-09-11" in manifest.extra_dates
    assert manifest.rows == 889 == len(pd.read_parquet(raw_path(tmp_path, "TEST")))


def test_an_unknown_calendar_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no exchange calendar 'XMOON'"):
        import_file(BARS, "TEST", tmp_path, calendar="XMOON")
    assert contents(tmp_path) == {}


def split_file(folder: Path) -> Path:
    """Write bars that halve within a night, as an unadjusted split does."""
    bars = some_bars(500)
    halved = [(day, *(price / 2 for price in prices), volume) for day, *prices, volume in bars[250:]]
    path = folder / "split.csv"
    path.write_text(csv_of([*bars[:250], *halved]))  # type: ignore[list-item]
    return path


def test_doubtful_bars_are_refused_and_change_nothing(data_dir: Path) -> None:
    before = contents(data_dir)
    path = split_file(data_dir.parent)
    with pytest.raises(BadFile, match="labels would be wrong: the close jumps by -50%") as caught:
        import_file(path, "TEST", data_dir, calendar=None)
    path.unlink()
    assert "--accept REASON" in caught.value.remedy
    assert {name: content for name, content in contents(data_dir).items() if name != "split.csv"} == before


def test_an_accepted_doubt_is_recorded_with_its_reason_in_both_manifests(tmp_path: Path) -> None:
    raw = import_file(split_file(tmp_path), "HALF", tmp_path, calendar=None, accept="it  really fell\n")
    assert raw.accepted == "it really fell"
    assert "like an unadjusted split" in raw.doubts[0]
    built = build_dataset("HALF", "a20", tmp_path)
    assert built.accepted == "HALF: it really fell"
    assert built.doubts == (f"HALF: {raw.doubts[0]}",)
    assert read_raw_manifest(raw_path(tmp_path, "HALF")) == raw
    assert read_manifest(dataset_path(tmp_path, "HALF", "a20")) == built


def test_a_reason_that_was_not_needed_is_not_recorded(tmp_path: Path) -> None:
    raw = import_file(BARS, "TEST", tmp_path, calendar=None, accept="just in case")
    assert (raw.doubts, raw.accepted) == ((), None)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "a\x07b"])
def test_a_reason_must_be_one_short_printable_line(reason: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="expected a reason"):
        import_file(BARS, "TEST", tmp_path, accept=reason)
    assert contents(tmp_path) == {}


def test_an_index_may_have_a_few_opens_outside_its_range(tmp_path: Path) -> None:
    lines = csv_of(some_bars(300)).splitlines()
    day = lines[8].split(",")[0]
    lines[8] = f"{day},1700,1600,1400,1500,0"
    path = tmp_path / "index.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(BadFile, match=r"line 9: .*: open above high"):
        import_file(path, "VIX", tmp_path, calendar=None)
    assert f"open above high on {day}" in import_file(path, "^VIX", tmp_path, calendar=None).doubts
    accepted = import_file(path, "VIX", tmp_path, calendar=None, accept="as the exchange publishes it")
    assert accepted.accepted == "as the exchange publishes it"


def test_the_ticker_chooses_among_several_in_a_file(tmp_path: Path) -> None:
    rows = [f"{line},{name}" for name in ("ONE", "TWO") for line in csv_of(some_bars(300), header=None).splitlines()]
    path = tmp_path / "two.csv"
    path.write_text("\n".join(["date,open,high,low,close,volume,symbol", *rows]))
    assert import_file(path, "two", tmp_path, calendar=None).read_as == ("rows of ticker TWO (of 2 tickers)",)
    with pytest.raises(BadFile, match="2 tickers in one file: 'ONE', 'TWO'"):
        import_file(path, "THREE", tmp_path, calendar=None)


@pytest.mark.parametrize("first", ["2020-01-01", "2020-01-04"])
def test_a_file_may_begin_on_a_holiday(first: str) -> None:
    days = pd.date_range(first, "2020-03-01", freq="D")
    gaps = compare_sessions(days, "XNYS")
    assert gaps.missing == ()
    assert gaps.extra[0] == first
    assert len(gaps.extra) + len(pd.bdate_range(first, "2020-03-01")) - len(days) in {2, 3}  # the holidays


def test_years_that_a_calendar_does_not_know_are_an_error_with_a_cure() -> None:
    with pytest.raises(TrainingError, match="'XHKG' does not reach 1950-01-03") as caught:
        compare_sessions(pd.bdate_range("1950-01-03", periods=300), "XHKG")
    assert "none" in caught.value.remedy


def test_the_embedded_sample_is_two_real_markets_without_a_gap(tmp_path: Path) -> None:
    manifests = import_sample(tmp_path, now=NOW)
    assert [(m.ticker, m.rows, m.first_date, m.last_date) for m in manifests] == [
        ("SP500", 5031, "1999-01-04", "2018-12-31"),
        ("NASDAQ", 5031, "1999-01-04", "2018-12-31"),
    ]
    assert all((m.missing_sessions, m.extra_days) == (0, 0) for m in manifests)
    assert build_dataset("SP500", "a25", tmp_path).rows == 4832


def test_the_vix_tier_remembers_both_sources(data_dir: Path) -> None:
    import_file(BARS, "^VIX", data_dir, calendar=None)
    manifest = build_dataset("TEST", "a25_vix", data_dir)
    assert manifest.num_features == 28
    assert dict(manifest.extra_sources) == {"VIX": sha256_of(raw_path(data_dir, "VIX"))}


def test_a_ticker_that_was_never_imported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="SPY is not imported") as caught:
        build_dataset("SPY", "a25", tmp_path)
    assert "data import" in caught.value.remedy


def test_raw_data_that_changed_after_the_import_are_refused(data_dir: Path) -> None:
    with raw_path(data_dir, "TEST").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DatasetError, match="changed since it was imported"):
        build_dataset("TEST", "a25", data_dir)


class TestVerify:
    """Every file that differs from its registration is named once, with its fault."""

    def found(self, data_dir: Path) -> dict[str, str]:
        return {finding.path.name: finding.problem for finding in verify(data_dir)}

    def test_a_sound_folder_has_no_findings(self, data_dir: Path) -> None:
        assert verify(data_dir) == []
        assert [manifest.kind for manifest in list_data(data_dir)] == ["raw", "processed"]

    def test_an_empty_folder_has_no_findings(self, tmp_path: Path) -> None:
        assert verify(tmp_path) == []
        assert list_data(tmp_path) == []

    def test_missing(self, data_dir: Path) -> None:
        dataset_path(data_dir, "TEST").unlink()
        assert self.found(data_dir) == {"TEST_dataset_a25.parquet": "missing"}

    def test_changed(self, data_dir: Path) -> None:
        path = dataset_path(data_dir, "TEST")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert self.found(data_dir) == {"TEST_dataset_a25.parquet": "changed"}

    def test_unregistered(self, data_dir: Path) -> None:
        (data_dir / "processed" / "stray.parquet").write_bytes(b"x")
        (data_dir / "raw" / "notes.txt").write_bytes(b"x")
        assert self.found(data_dir) == {"stray.parquet": "unregistered", "notes.txt": "unregistered"}

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"schema": 99, "kind": "processed"}', b'{"schema": 1, "kind": "processed"}']
    )
    def test_unreadable(self, data_dir: Path, content: bytes) -> None:
        manifest_path(dataset_path(data_dir, "TEST")).write_bytes(content)
        assert self.found(data_dir) == {"TEST_dataset_a25.json": "unreadable"}

    def test_outdated_by_a_newer_import(self, data_dir: Path) -> None:
        longer = data_dir.parent / "longer.csv"
        longer.write_bytes(BARS.read_bytes() + b"2005-01-03,100,101,99,100,1000\n")
        import_file(longer, "TEST", data_dir, calendar=None)
        assert self.found(data_dir) == {"TEST_dataset_a25.parquet": "outdated"}

    def test_outdated_by_newer_feature_code(self, data_dir: Path) -> None:
        path = manifest_path(dataset_path(data_dir, "TEST"))
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "feature_version": FEATURE_VERSION - 1}))
        assert self.found(data_dir) == {"TEST_dataset_a25.parquet": "outdated"}


def test_a_manifest_with_an_unknown_key_is_refused_by_name(data_dir: Path) -> None:
    path = manifest_path(dataset_path(data_dir, "TEST"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    with pytest.raises(DatasetError, match="colour"):
        read_manifest(path)


def test_an_interrupted_manifest_leaves_the_old_one(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = manifest_path(dataset_path(data_dir, "TEST"))
    before = contents(data_dir)

    def no_space(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(read_manifest(path), path)
    assert contents(data_dir) == before
