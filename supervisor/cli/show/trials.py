"""Runs the verbs that list trials: trials and export. Each returns the exit code."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supervisor.cli.end_table import short_params
from supervisor.cli.guide.progress import working
from supervisor.cli.show.rows import LAST, MORE, Row, column_named, of_state, result_rows, sorted_rows, trial_rows
from supervisor.cli.show.views import experiments_of, print_json, run_view
from supervisor.cli.watch import columns_of
from supervisor.domain.lifecycle import TRIAL_ENDED
from supervisor.filesystem import write_atomically
from supervisor.formatting import counted, duration, fitted, number, one_line, table
from supervisor.home import Home

PARAMS = "params"
"""The column of all parameters in short."""
COLUMNS = ("experiment", "trial", "state", "end_reason", "value", "epochs", "training_s", PARAMS)
LOSSES = ("value", LAST)


def trials(home: Home, arguments: argparse.Namespace) -> int:
    view = run_view(home, arguments.run_or_plan, trials=True)
    experiments = experiments_of(view, arguments.experiments)
    rows = trial_rows(view, experiments, time.time())
    # Without a trial no column has a name yet.
    wanted = None if arguments.columns is None or not rows else arguments.columns.split(",")
    # The name of the only experiment would take the room of its parameters.
    default = COLUMNS[1:] if len(experiments) == 1 else COLUMNS
    named = list(default) if wanted is None else [column_named(name.strip(), rows, (PARAMS,)) for name in wanted]
    found = of_state(rows, arguments.state)
    if arguments.sort is not None and rows:
        modes = {experiment["name"]: experiment["spec"]["mode"] for experiment in experiments}
        found = sorted_rows(found, column_named(arguments.sort, rows), modes, reverse=arguments.reverse)
    elif arguments.reverse:
        found.reverse()
    if arguments.json:
        print_json({"run": view["run"]["id"], "trials": [_as_json(row, named, wanted is None) for row in found]})
        return 0
    columns = columns_of(sys.stdout)
    for line in table([named, *([_cell(row, name) for name in named] for row in found)]):
        print(line if columns is None else fitted(line, columns))
    return 0


def _as_json(row: Row, columns: Sequence[str], whole: bool) -> Row:
    """Return a row with these columns, or whole; its parameters by name, not in short."""
    if whole:
        return row
    return {name: _params(row) if name == PARAMS else row[name] for name in columns}


def _params(row: Row) -> dict[str, Any]:
    own = {name.removeprefix("params."): value for name, value in row.items() if name.startswith("params.")}
    return {name: value for name, value in own.items() if value is not None}


def _cell(row: Row, column: str) -> str:
    if column == PARAMS:
        return short_params(_params(row))
    value = row[column]
    if column == "value" and value is None and row["state"] not in TRIAL_ENDED:
        value = row[LAST]
    if value is None:
        return "-"
    if column == "epochs" and row[MORE] is not None:
        return f"{value} (+{counted(row[MORE], 'epoch')})"
    if column == "end_reason" and row["duplicate_of"] is not None:
        return f"{value} as {row['duplicate_of']}"
    if column == "training_s":
        return duration(value)
    if column in LOSSES or isinstance(value, float):
        return number(value)
    return one_line(str(value))


def export(home: Home, arguments: argparse.Namespace) -> int:
    with working("reading the trials", quick=True):
        view = run_view(home, arguments.run_or_plan, trials=True)
        experiments = experiments_of(view, arguments.experiment)
        rows = result_rows(view, experiments) if arguments.results else trial_rows(view, experiments, time.time())
    if arguments.csv is not None:
        text = csv_text(rows)
        if arguments.csv == "-":
            sys.stdout.write(text)
            return 0
        path, content = Path(arguments.csv), text.encode()
    else:
        kind = "results" if arguments.results else "trials"
        path = Path(arguments.parquet or f"{view['run']['id']}-{kind}.parquet")
        content = parquet_bytes(rows)
    write_atomically(path.absolute(), content, durable=False)
    print(f"{path}: {len(rows)} rows")
    return 0


def csv_text(rows: Sequence[Row]) -> str:
    """Return rows of the same columns as CSV with a heading; an absent value is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
        writer.writerows([_flat(value) for value in row.values()] for row in rows)
    return out.getvalue()


def _flat(value: Any) -> Any:
    """Return a value for one cell: a list or a mapping as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value


def parquet_bytes(rows: Sequence[Row]) -> bytes:
    """Return rows of the same columns as the content of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    columns = {name: pa.array(column([row[name] for row in rows])) for name in (rows[0] if rows else ())}
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


def column(values: Sequence[Any]) -> list[Any]:
    """Return the values of a column of one type: numbers stay numbers, values of several types become text."""
    flat = [_flat(value) for value in values]
    kinds = {type(value) for value in flat if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in flat]
    if len(kinds) > 1:
        return [None if value is None else str(value) for value in flat]
    return flat
