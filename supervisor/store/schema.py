"""The store's tables. A change to them raises VERSION: a store of another version is refused, never changed."""

from __future__ import annotations

VERSION = 5
"""Kept in the file as `user_version`; 0 is a file without tables."""

SCHEMA = """
    CREATE TABLE run (
        id TEXT PRIMARY KEY, plan TEXT NOT NULL, fingerprint TEXT NOT NULL, source TEXT NOT NULL,
        plan_text TEXT NOT NULL, hardware TEXT NOT NULL, data TEXT NOT NULL, state TEXT NOT NULL, desired TEXT NOT NULL,
        reason TEXT, created_wall REAL NOT NULL, ended_wall REAL
    ) STRICT;
    -- `action` and `origin` are those of the command that pauses the experiment, NULL in every other state.
    CREATE TABLE experiment (
        run TEXT NOT NULL REFERENCES run(id), name TEXT NOT NULL, ordinal INTEGER NOT NULL, spec TEXT NOT NULL,
        state TEXT NOT NULL, reason TEXT, action TEXT, origin TEXT, driver_starts INTEGER NOT NULL DEFAULT 0,
        started_wall REAL, ended_wall REAL, PRIMARY KEY (run, name)
    ) STRICT;
    CREATE TABLE trial (
        run TEXT NOT NULL, experiment TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL,
        params TEXT NOT NULL, source TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
        end_reason TEXT, value REAL, error TEXT, record TEXT NOT NULL DEFAULT '{}',
        checkpoint TEXT, checkpoint_step INTEGER, held_for TEXT,
        added_wall REAL NOT NULL, started_wall REAL, ended_wall REAL,
        PRIMARY KEY (run, experiment, number), FOREIGN KEY (run, experiment) REFERENCES experiment(run, name)
    ) STRICT;
    CREATE TABLE attempt (
        run TEXT NOT NULL, experiment TEXT NOT NULL, trial INTEGER NOT NULL, attempt INTEGER NOT NULL,
        node TEXT NOT NULL, worker_pid INTEGER, resumed_step INTEGER, started_wall REAL NOT NULL, ended_wall REAL,
        cause TEXT, PRIMARY KEY (run, experiment, trial, attempt)
    ) STRICT;
    CREATE TABLE result (
        run TEXT NOT NULL, experiment TEXT NOT NULL, trial INTEGER NOT NULL, step INTEGER NOT NULL,
        attempt INTEGER NOT NULL, value REAL, metrics TEXT NOT NULL, wall REAL NOT NULL,
        PRIMARY KEY (run, experiment, trial, step)
    ) STRICT;
    -- The operator's commands in force by scope, and the schedule's last one as scope 'schedule'.
    CREATE TABLE command (
        run TEXT NOT NULL REFERENCES run(id), scope TEXT NOT NULL, command TEXT NOT NULL, PRIMARY KEY (run, scope)
    ) STRICT;
    -- An experiment's one test: its opening is written before the first look, its result after. `tries` are the
    -- openings since a person last asked for it; `failure` says why the last one has no result.
    CREATE TABLE evaluation (
        run TEXT NOT NULL, experiment TEXT NOT NULL, openings INTEGER NOT NULL, tries INTEGER NOT NULL,
        opening TEXT NOT NULL, failure TEXT, result TEXT, wall REAL NOT NULL,
        PRIMARY KEY (run, experiment), FOREIGN KEY (run, experiment) REFERENCES experiment(run, name)
    ) STRICT;
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY, wall REAL NOT NULL, name TEXT NOT NULL, run TEXT, experiment TEXT,
        trial INTEGER, attempt INTEGER, fields TEXT NOT NULL
    ) STRICT;
    CREATE INDEX event_of_run ON event (run, seq);
    -- The sensors' readings by the minute (reading_rollup.MinuteOfReadings): in no event, so lost with the file.
    CREATE TABLE reading (
        run TEXT NOT NULL REFERENCES run(id), node TEXT NOT NULL, sensor TEXT NOT NULL, minute INTEGER NOT NULL,
        unit TEXT NOT NULL, count INTEGER NOT NULL, believed INTEGER NOT NULL, low REAL, mean REAL, high REAL,
        PRIMARY KEY (run, node, sensor, minute)
    ) STRICT;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
