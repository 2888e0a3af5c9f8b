"""Runs the verbs of `supervisord data`: import, fetch, sample, build, list, verify. Each returns the exit code.

A verb imports the training room, with pandas and TA-Lib, when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.cli.guide.next_steps import with_command
from supervisor.cli.guide.progress import working
from supervisor.errors import SweepError
from supervisor.formatting import table
from supervisor.home import Home

if TYPE_CHECKING:
    from training.data.manifest import Manifest, ProcessedManifest, RawManifest

EXIT_OK = 0
EXIT_FINDINGS = 1
DEFAULT_TIER = "a25"
# Yahoo's caret marks an index; an index has no usable volume and serves other tickers' tiers.
INDEX_MARK = "^"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs to the parser of `supervisord data`; the chosen one is in `args.data_verb`."""
    from training.data.tiers import TIERS

    verbs = parser.add_subparsers(dest="data_verb", metavar="VERB", required=True)

    importing = verbs.add_parser("import", help="check a CSV or parquet file of daily bars and build its dataset")
    importing.add_argument("file", type=Path, metavar="FILE")
    importing.add_argument("--ticker", required=True, help="such as SPY or ^VIX")
    _add_build_options(importing, list(TIERS))

    fetching = verbs.add_parser("fetch", help="download daily bars (needs the extra: sweep-supervisor[fetch])")
    fetching.add_argument("tickers", nargs="+", metavar="TICKER")
    _add_build_options(fetching, list(TIERS))

    verbs.add_parser("sample", help="register the embedded S&P 500 and NASDAQ bars of 1999 to 2018 and build them")

    building = verbs.add_parser("build", help="build a dataset of another feature tier from imported bars")
    building.add_argument("ticker", metavar="TICKER")
    building.add_argument("--tier", choices=list(TIERS), default=DEFAULT_TIER)

    verbs.add_parser("list", help="list the registered files")
    verbs.add_parser("verify", help="list every file that is missing, changed, outdated or unregistered")


def data(home: Home, args: argparse.Namespace) -> int:
    from supervisor.plan.dataset import with_training_errors

    home.prepare()
    try:
        return with_training_errors(lambda: run(args, home.data))
    except SweepError as error:
        error.remedy = with_command(error.remedy, f"`supervisord data {args.data_verb} --help` has examples")
        raise


def run(args: argparse.Namespace, data_dir: Path) -> int:
    """Carry out `args.data_verb` in `data_dir`; return the exit code, 1 for a `verify` with findings.

    Raises the training room's errors.
    """
    verbs: dict[str, Callable[[argparse.Namespace, Path], int]] = {
        "import": _import,
        "fetch": _fetch,
        "sample": _sample,
        "build": _build,
        "list": _list,
        "verify": _verify,
    }
    return verbs[args.data_verb](args, data_dir)


def _add_build_options(parser: argparse.ArgumentParser, tiers: Sequence[str]) -> None:
    parser.add_argument("--tier", choices=tiers, default=DEFAULT_TIER, help=f"feature tier (default {DEFAULT_TIER})")
    parser.add_argument(
        "--calendar",
        default="XNYS",
        help="the exchange whose sessions are compared, such as XLON or 24/7; none for no check",
    )
    parser.add_argument("--accept", metavar="REASON", help="take bars whose labels look wrong; the reason is recorded")


def _import(args: argparse.Namespace, data_dir: Path) -> int:
    from training.data.imports import import_file

    with working(f"reading and checking {args.file}"):
        manifest = import_file(args.file, args.ticker, data_dir, calendar=_calendar(args), accept=args.accept)
    _say_imported(manifest, data_dir, args.accept)
    _build_if_shares(manifest, args.tier, data_dir)
    return EXIT_OK


def _fetch(args: argparse.Namespace, data_dir: Path) -> int:
    from training.data.imports import import_fetched

    for ticker in args.tickers:
        with working(f"fetching {ticker}"):
            manifest = import_fetched(ticker, data_dir, calendar=_calendar(args), accept=args.accept)
        _say_imported(manifest, data_dir, args.accept)
        _build_if_shares(manifest, args.tier, data_dir)
    return EXIT_OK


def _sample(args: argparse.Namespace, data_dir: Path) -> int:
    from training.data.imports import import_sample

    with working("reading the embedded sample"):
        imported = import_sample(data_dir)
    for manifest in imported:
        _say_imported(manifest, data_dir)
        _build_if_shares(manifest, DEFAULT_TIER, data_dir)
    return EXIT_OK


def _build(args: argparse.Namespace, data_dir: Path) -> int:
    from training.data.dataset_files import build_dataset

    with working(f"building {args.tier} of {args.ticker}"):
        built = build_dataset(args.ticker, args.tier, data_dir)
    _say_built(built, data_dir)
    return EXIT_OK


def _list(args: argparse.Namespace, data_dir: Path) -> int:
    from training.data.dataset_files import list_data

    manifests = list_data(data_dir)
    if not manifests:
        print(f"No file is registered in {data_dir}. `supervisord data sample` registers sample data.")
        return EXIT_OK
    header = ("file", "rows", "first", "last", "inputs", "sha256", "source")
    print("\n".join(table([header, *map(_row, manifests)])))
    _say_doubts(manifests)
    return EXIT_OK


def _verify(args: argparse.Namespace, data_dir: Path) -> int:
    from training.data.dataset_files import list_data, verify

    with working(f"reading every file of {data_dir}", quick=True):
        findings = verify(data_dir)
    for finding in findings:
        print(f"{finding.problem:<13}{finding.path}: {finding.detail}")
        print(f"{'':<13}cure: {cure(finding.problem, finding.path)}")
    if findings:
        return EXIT_FINDINGS
    manifests = list_data(data_dir)
    print(f"{len(manifests)} registered files in {data_dir} are complete and unchanged.")
    _say_doubts(manifests)
    return EXIT_OK


def cure(problem: str, path: Path) -> str:
    """Return the cure for a finding of `verify`: raw files came from the user, processed ones can be built again."""
    if path.parent.name == "processed":
        return f"remove {path} and its .json; `supervisord data build`, or the next start, builds them again"
    if problem == "unregistered":
        return f"register it with `supervisord data import {path} --ticker NAME`, or move it away"
    ticker = path.stem
    return f"import the bars again: `supervisord data import FILE --ticker {ticker}`, or `data fetch {ticker}`"


def _calendar(args: argparse.Namespace) -> str | None:
    return None if args.calendar.lower() == "none" else str(args.calendar)


def _build_if_shares(manifest: RawManifest, tier: str, data_dir: Path) -> None:
    """Build the dataset at once, unless the bars are an index's or have no volume: no tier uses those alone."""
    from training.data.dataset_files import build_dataset

    if "volume" in manifest.columns and not manifest.symbol.startswith(INDEX_MARK):
        with working(f"building {tier} of {manifest.ticker}"):
            built = build_dataset(manifest.ticker, tier, data_dir)
        _say_built(built, data_dir)
    else:
        print("  no dataset of its own: an index or bars without volume serve the tiers a25_vix and s28_vix of others")


def _say_doubts(manifests: Sequence[Manifest]) -> None:
    """Print the doubts about imported bars, and the reasons for which they were accepted."""
    for manifest in manifests:
        if manifest.kind == "raw":
            for line in _doubts(manifest):
                print(f"{manifest.file}: {line}")


def _doubts(manifest: Manifest) -> list[str]:
    accepted = [] if manifest.accepted is None else [f"accepted: {manifest.accepted}"]
    return [*(f"doubt: {doubt}" for doubt in manifest.doubts), *accepted]


def _say_imported(manifest: RawManifest, data_dir: Path, accept: str | None = None) -> None:
    print(
        f"{manifest.ticker}: {manifest.rows:,} days, {manifest.first_date} to {manifest.last_date}, {manifest.source}"
    )
    print(f"  {data_dir / 'raw' / manifest.file}  sha256 {manifest.sha256[:12]}")
    if manifest.read_as:
        print(f"  read as: {'; '.join(manifest.read_as)}")
    for line in _doubts(manifest):
        print(f"  {line}")
    if accept is not None and manifest.accepted is None:
        print("  --accept was not needed, and is not recorded")
    if manifest.ignored_columns:
        print(f"  not used: {', '.join(manifest.ignored_columns)}")
    for count, dates, words in (
        (manifest.missing_sessions, manifest.missing_dates, "sessions without a row"),
        (manifest.extra_days, manifest.extra_dates, "rows on days without a session"),
    ):
        if count:
            shown = ", ".join(dates[:5]) + (", ..." if count > len(dates[:5]) else "")
            print(f"  {manifest.calendar}: {count} {words} ({shown})")


def _say_built(manifest: ProcessedManifest, data_dir: Path) -> None:
    from training.data.windows import base_rates

    path = data_dir / "processed" / manifest.file
    print(f"  {path}  {manifest.rows:,} days x {manifest.num_features} inputs  sha256 {manifest.sha256[:12]}")
    rates = ", ".join(f"{rate:.1%} at {horizon} d" for horizon, rate in base_rates(path).items())
    print(f"  base rate of the days before all folds (high reaches +1 %): {rates}")


def _row(manifest: Manifest) -> tuple[str, ...]:
    inputs = str(manifest.num_features) if manifest.kind == "processed" else "raw"
    first, last = manifest.first_date, manifest.last_date
    return manifest.file, f"{manifest.rows:,}", first, last, inputs, manifest.sha256[:12], manifest.source
