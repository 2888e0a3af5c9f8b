"""Test `supervisord data`: each verb prints its effect or the training room's error."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from supervisor.cli import data, supervisord
from supervisor.plan.dataset import choose_dataset
from supervisor.plan.schema import Data
from tests.unit.training.small_bars import csv_of, some_bars
from training.data.imports import import_fetched
from training.data.manifest import dataset_path, raw_path
from training.errors import BadFile, DatasetError, FetchError

BARS = Path(__file__).parents[1] / "data" / "bars.csv"


def run(data_dir: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    return data.run(parser.parse_args(words), data_dir)


def test_import_registers_and_builds_and_prints_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "import", str(BARS), "--ticker", "test") == 0
    said = capsys.readouterr().out
    assert "TEST: 889 days, 2001-01-02 to" in said
    assert "XNYS: " in said
    assert "rows on days without a session (2001-01-15" in said
    assert "690 days x 25 inputs" in said
    assert "base rate" in said
    assert dataset_path(tmp_path, "TEST").is_file()


def test_an_index_is_registered_without_a_dataset_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "import", str(BARS), "--ticker", "^VIX", "--calendar", "none") == 0
    assert "tiers a25_vix and s28_vix" in capsys.readouterr().out
    assert raw_path(tmp_path, "VIX").is_file()
    assert not (tmp_path / "processed").exists()
    assert run(tmp_path, "import", str(BARS), "--ticker", "TEST", "--tier", "a25_vix", "--calendar", "none") == 0
    assert "x 28 inputs" in capsys.readouterr().out


def test_build_makes_another_tier_of_registered_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "import", str(BARS), "--ticker", "TEST", "--calendar", "none")
    assert run(tmp_path, "build", "TEST", "--tier", "a20") == 0
    assert "x 20 inputs" in capsys.readouterr().out


def test_an_error_of_the_data_ends_with_the_command_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    assert supervisord.main(["data", "import", str(tmp_path / "none.csv"), "--ticker", "A"]) == 1
    assert capsys.readouterr().err.endswith("`supervisord data import --help` has examples\n")


def test_list_shows_each_file_with_its_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "import", str(BARS), "--ticker", "TEST", "--calendar", "none")
    capsys.readouterr()
    assert run(tmp_path, "list") == 0
    header, raw, processed = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "rows", "first", "last", "inputs", "sha256", "source"]
    assert raw.split()[:5] == ["TEST.parquet", "889", "2001-01-02", "2004-06-14", "raw"]
    assert processed.split()[0] == "TEST_dataset_a25.parquet"
    assert processed.split()[4] == "25"


def test_an_empty_list_says_how_to_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "list") == 0
    assert "data sample" in capsys.readouterr().out


def test_verify_reports_findings_in_text_and_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "import", str(BARS), "--ticker", "TEST", "--calendar", "none")
    assert run(tmp_path, "verify") == 0
    assert "2 registered files" in capsys.readouterr().out
    dataset_path(tmp_path, "TEST").unlink()
    assert run(tmp_path, "verify") == 1
    said = capsys.readouterr().out
    assert said.startswith("missing")
    assert "TEST_dataset_a25.parquet" in said
    assert "cure: remove" in said
    raw = next((tmp_path / "raw").glob("*.parquet"))
    raw.write_bytes(raw.read_bytes() + b"x")
    assert run(tmp_path, "verify") == 1
    said = capsys.readouterr().out
    assert f"changed      {raw}" in said
    assert "cure: import the bars again: `supervisord data import FILE --ticker TEST`" in said


def without_volume(folder: Path, price: float = 1.0) -> Path:
    """Write bars without volume on any day; their prices are divided by `price` from the middle on."""
    bars = some_bars(600)
    path = folder / "bars.csv"
    path.write_text(csv_of(
        (day, *(value / (price if at > 300 else 1) for value in prices), 0)  # type: ignore[misc]
        for at, (day, *prices, _) in enumerate(bars)
    ))  # fmt: skip
    return path


def test_doubts_are_said_at_import_list_verify_and_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doubt = "volume is 0 on all 600 days"
    assert run(tmp_path, "import", str(without_volume(tmp_path)), "--ticker", "ETF", "--calendar", "none") == 0
    assert f"  doubt: {doubt}" in capsys.readouterr().out
    (tmp_path / "bars.csv").unlink()
    for verb in ("list", "verify"):
        assert run(tmp_path, verb) == 0
        assert f"ETF.parquet: doubt: {doubt}" in capsys.readouterr().out
    chosen = choose_dataset(Data(ticker="ETF", tier="a25"), tmp_path)
    assert f"\n      doubt: ETF: {doubt}" in chosen.sentence()


def test_accept_takes_bars_that_are_refused_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["import", str(without_volume(tmp_path, price=4)), "--ticker", "ETF", "--calendar", "none"]
    with pytest.raises(BadFile, match="like an unadjusted split") as caught:
        run(tmp_path, *words)
    assert "--accept REASON" in caught.value.remedy
    assert run(tmp_path, *words, "--accept", "fell by three quarters") == 0
    assert "  accepted: fell by three quarters" in capsys.readouterr().out
    for verb in ("list", "verify"):
        run(tmp_path, verb)
        assert "ETF.parquet: accepted: fell by three quarters" in capsys.readouterr().out
    assert (
        "accepted: ETF: fell by three quarters" in choose_dataset(Data(ticker="ETF", tier="a25"), tmp_path).sentence()
    )


def test_import_says_how_a_file_was_read_and_that_accept_was_not_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bars.txt"
    path.write_text("ACME\n" + csv_of(some_bars(600)[::-1]))
    run(tmp_path, "import", str(path), "--ticker", "ACME", "--calendar", "none", "--accept", "why not")
    said = capsys.readouterr().out
    assert (
        "  read as: header in line 2, the lines above it left out; the newest row comes first, order reversed" in said
    )
    assert "--accept was not needed" in said


def test_sample_brings_two_markets_and_their_datasets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "sample") == 0
    said = capsys.readouterr().out
    assert "SP500: 5,031 days" in said
    assert "NASDAQ: 5,031 days" in said
    assert dataset_path(tmp_path, "SP500").is_file()
    assert run(tmp_path, "verify") == 0


def test_errors_of_the_training_room_pass_through(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file"):
        run(tmp_path, "import", str(tmp_path / "gone.csv"), "--ticker", "SPY")
    with pytest.raises(DatasetError, match="not imported"):
        run(tmp_path, "build", "SPY")


def test_a_verb_is_required_and_an_unknown_tier_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["build", "SPY", "--tier", "a99"], ["sell"]):
        with pytest.raises(SystemExit) as caught:
            run(tmp_path, *words)
        assert caught.value.code == 2
    assert "a99" in capsys.readouterr().err


class TestFetch:
    """Downloading, against a stand-in for yfinance: no test here touches a network."""

    def install(self, monkeypatch: pytest.MonkeyPatch, download: Any) -> None:
        module = ModuleType("yfinance")
        module.download = download  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "yfinance", module)

    def test_without_yfinance_the_error_says_how_to_get_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "yfinance", None)
        with pytest.raises(FetchError, match="not installed") as caught:
            run(tmp_path, "fetch", "SPY")
        assert "sweep-supervisor[fetch]" in caught.value.remedy

    def test_without_a_network_the_error_quotes_yfinance(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def silent(*_: object, **__: object) -> pd.DataFrame:
            print("1 Failed download: ['SPY']: could not resolve host")
            return pd.DataFrame()

        self.install(monkeypatch, silent)
        with pytest.raises(FetchError, match="could not resolve host"):
            run(tmp_path, "fetch", "SPY")
        assert list(tmp_path.iterdir()) == []

    def test_an_exception_of_yfinances_libraries_becomes_a_training_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_: object, **__: object) -> pd.DataFrame:
            raise ConnectionError("no route")

        self.install(monkeypatch, failing)
        with pytest.raises(FetchError, match="SPY could not be downloaded: no route"):
            run(tmp_path, "fetch", "SPY")

    def test_downloaded_bars_are_checked_and_registered_like_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        frame = pd.read_csv(BARS, index_col="date", parse_dates=True).rename(columns=str.title)
        frame.index = pd.DatetimeIndex(frame.index, name="Date")
        asked: dict[str, Any] = {}

        def download(symbol: str, **options: Any) -> pd.DataFrame:
            asked.update(options, symbol=symbol)
            return frame.assign(**{"Adj Close": 1.0})

        self.install(monkeypatch, download)
        manifest = import_fetched("^spx", tmp_path, calendar=None)
        assert (manifest.ticker, manifest.symbol, manifest.source) == ("SPX", "^SPX", "yfinance ^spx")
        assert manifest.ignored_columns == ("Adj Close",)
        assert asked["timeout"] > 0
        assert asked["auto_adjust"] is False
