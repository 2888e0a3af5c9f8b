"""Read the world that a store holds."""

from __future__ import annotations

import json
import sqlite3

from tests.unit.lifecycle.run_facts import Experiment, Extension, Run, Trial
from tests.unit.lifecycle.world import World


def read_world(connection: sqlite3.Connection) -> World:
    """Return the world that the store holds. `connection` gives rows by name."""
    return World([_read_run(connection, row) for row in connection.execute("SELECT * FROM run ORDER BY rowid")])


def _read_run(connection: sqlite3.Connection, row: sqlite3.Row) -> Run:
    def rows(table: str) -> list[sqlite3.Row]:
        return connection.execute(f"SELECT * FROM {table} WHERE run = ?", (row["id"],)).fetchall()

    refused = connection.execute(
        "SELECT count(*) FROM event WHERE run = ? AND name = 'result.refused'", (row["id"],)
    ).fetchone()[0]
    advanced = connection.execute(
        "SELECT fields FROM event WHERE run = ? AND name = 'queue.advanced' ORDER BY seq", (row["id"],)
    ).fetchall()
    run = Run(row["state"], row["desired"], row["reason"] is not None, refused=refused)
    run.entries = [str(json.loads(each["fields"])["id"]) for each in advanced]
    run.commands = {each["scope"]: _action(each["command"]) for each in rows("command")}
    run.experiments = {
        each["name"]: Experiment(
            each["state"], each["action"], each["origin"], each["reason"] if each["state"] == "FATAL" else None
        )
        for each in rows("experiment")
    }
    specs = {each["name"]: json.loads(each["spec"]) for each in rows("experiment")}
    run.finishing = {name for name, spec in specs.items() if spec.get("finish_asked")}
    run.searched = {name: spec["searched"] for name, spec in specs.items() if spec.get("searched") is not None}
    run.totals = {name: spec["max_trials"] for name, spec in specs.items()}
    run.started = {each["name"] for each in rows("experiment") if each["driver_starts"]}
    run.put_next = {name for name, spec in specs.items() if spec.get("put_next")}
    run.asked = {name: len(spec.get("asked", ())) for name, spec in specs.items()}
    run.left_out = {name for name, spec in specs.items() if spec.get("left_out")}
    run.discarded = {(name, int(number)) for name, spec in specs.items() for number in spec.get("discarded", ())}
    run.tested = {each["experiment"] for each in rows("evaluation")}
    run.at_once = {name: spec["concurrency"] for name, spec in specs.items()}
    run.ending = {(name, int(number)) for name, spec in specs.items() for number in spec.get("ending", ())}
    for each in rows("trial"):
        run.trials[each["experiment"], each["number"]] = Trial(
            each["state"], each["attempt"], each["end_reason"], each["value"], each["error"], each["checkpoint_step"],
            each["source"] == "finalize",
        )  # fmt: skip
    for name, spec in specs.items():
        for number, one in spec.get("extended", {}).items():
            run.trials[name, int(number)].extension = Extension(
                one["last_step"], one["end_reason"], one["value"], one["failed"]
            )
    for each in rows("result"):
        run.trials[each["experiment"], each["trial"]].results[each["step"]] = (each["attempt"], each["value"])
    for each in rows("attempt"):
        run.trials[each["experiment"], each["trial"]].lived[each["attempt"]] = each["ended_wall"] is None
    return run


def _action(command: str) -> str:
    return str(json.loads(command)["action"])
