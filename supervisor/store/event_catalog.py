"""Lists every event: its name, its level, its text and its fields. docs/events.md is made from this list.

An event is a durable fact, so its name is dotted and in the past tense. `run`, `experiment`, `trial` and `attempt`
may stand beside any of them and are not listed again. Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Formatter

BESIDE = ("run", "experiment", "trial", "attempt")
"""These may stand beside the fields of any event."""


@dataclass(frozen=True)
class EventKind:
    level: str
    """info, warning or error."""
    text: str
    """The sentence for people; {field} is filled in from the event's fields, {field:noun} as a number of things."""
    more: str = ""
    """The fields that the sentence does not show, between blanks."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of all fields: those of the sentence, then the others."""
        shown = [name for _, name, _, _ in Formatter().parse(self.text) if name is not None and name not in BESIDE]
        return tuple(dict.fromkeys([*shown, *self.more.split()]))

    @property
    def shown(self) -> str:
        """The sentence as the page shows it, each noun in the plural."""
        return _COUNTED.sub(r"{\1} \2s", self.text)


_COUNTED = re.compile(r"\{(\w+):(\w+)\}")


EVENTS: dict[str, EventKind] = {
    "daemon.started": EventKind("info", "daemon {pid} started", "version socket boot_id by"),
    "daemon.privileged": EventKind(
        "warning", "the daemon runs as root (user id {uid}): so do its trials; an account of its own is safer"
    ),
    "daemon.delayed": EventKind("warning", "the daemon crashed {starts:time} in a row: this start waits {wait_s} s"),
    "daemon.crash_looped": EventKind(
        "error", "the daemon crashed {starts:time} in a row; automatic restart is disabled"
    ),
    "socket.restored": EventKind("warning", "the control socket {path} was removed and is bound again"),
    "page.opened": EventKind("info", "the live page is open at {address}", "not_free"),
    "page.failed": EventKind("warning", "the live page cannot be opened: {error}; the run goes on without it"),
    "page.closed": EventKind("info", "the live page is closed: {reason}"),
    "audit.lagged": EventKind(
        "error", "the log cannot be written ({error}); the store keeps the events and the run goes on"
    ),
    "audit.taken": EventKind(
        "warning", "another program renamed, removed or cut {path}: the log goes on there, after event {after}"
    ),
    "audit.recovered": EventKind("info", "the log has caught up with the store"),
    "stop.forced": EventKind("error", "{what} had not ended {after_s} s after the request to stop and was killed"),
    "plan.compared": EventKind(
        "info", "{path} read again; the run keeps its own copy. Changed there: {changes}", "sha256"
    ),
    "plan.changed": EventKind(
        "warning",
        "{who} changes the plan of {experiments}: {sets}",
        "specs policy schedule plan_text fingerprint source_sha256 everywhere",
    ),
    "plan.refused": EventKind(
        "warning", "{path} is not a valid plan now; the run keeps its own copy: {error}", "sha256"
    ),
    "orphans.ended": EventKind("warning", "orphaned processes were ended: {processes}"),
    "daemon.recovered": EventKind(
        "warning", "the last daemon did not end in order; back to the queue: {requeued:trial}"
    ),
    "peer.refused": EventKind("warning", "user id {uid} asked on the control socket and was refused"),
    "daemon.stopped": EventKind("info", "daemon stopped: {reason}"),
    "daemon.stood_still": EventKind(
        "warning", "the daemon did not run for {seconds} s: it was stopped, or the machine was too busy"
    ),
    "machine.slept": EventKind(
        "info", "the machine slept for {seconds} s, which do not count as time of any experiment"
    ),
    "machine.underused": EventKind("warning", "{what} idle while trials wait: {cause}; cure: {cure}"),
    "clock.set": EventKind("warning", "the clock was set by {seconds} s; `seq` gives the order of events"),
    "store.rebuilt": EventKind(
        "error",
        "the store was rebuilt from the logs, because {cause}; the old one lies at {aside}",
        "events runs problems",
    ),
    "store.copied": EventKind("info", "store copied to {path} by {who}", "bytes"),
    "disk.filled": EventKind("error", "only {free_bytes} are free at {folder}: work pauses until there is space"),
    "disk.nearly_filled": EventKind(
        "warning", "only {free_bytes} are free at {folder}, less than {limit_bytes}: soon no new trial starts"
    ),
    "disk.freed": EventKind("info", "{free_bytes} are free at {folder}: work goes on"),
    "audit.repaired": EventKind("warning", "an incomplete last line of {bytes} was removed from the log"),
    "audit.restored": EventKind("warning", "missing from the log after event {after}, and written again: {lines:line}"),
    "audit.replaced": EventKind("warning", "the log of another store was moved to {path}"),
    "run.created": EventKind(
        "info", "run of {plan} created", "fingerprint experiments data source plan_text hardware specs"
    ),
    "run.estimated": EventKind(
        "info", "the ETA begins with the dry run's figures of {count:experiment} ({basis})", "experiments"
    ),
    "queue.advanced": EventKind("info", "it waited in the queue for {waited_s} s, put there by {who}", "id"),
    "run.moved": EventKind("info", "run is {state}"),
    "run.wanted": EventKind("info", "run wanted again by {who}"),
    "run.reopened": EventKind("info", "a run that had failed is tried again"),
    "run.started": EventKind("info", "run started"),
    "run.paused": EventKind("warning", "{scope} paused ({mode}) by {who}: {reason}", "command"),
    "run.resumed": EventKind("info", "{scope} resumed by {who}"),
    "schedule.changed": EventKind("info", "{action} {reason}", "until_wall who command"),
    "schedule.uninformed": EventKind(
        "warning", "it is unknown {what} ({why}): for the schedule this counts like a yes, so it may hold the work back"
    ),
    "run.stopped": EventKind("warning", "stopped by {who}"),
    "run.finished": EventKind(
        "info",
        "run finished in {seconds} s: {passed} passed, {failed} failed, {skipped} skipped, {incomplete} without an"
        " answer; {failed_trials:trial} failed",
    ),
    "run.failed": EventKind("error", "run cannot go on: {error}"),
    "run.abandoned": EventKind("warning", "run given up for a new one"),
    "experiment.moved": EventKind("info", "{experiment} is {state}", "reason"),
    "experiment.started": EventKind("info", "{experiment} started", "max_trials"),
    "experiment.finished": EventKind(
        "info", "{experiment} finished: best {best} of {trials:trial}, {failed} failed", "best_trial seconds"
    ),
    "experiment.failed": EventKind("error", "{experiment} failed: {reason}", "error seconds"),
    "experiment.skipped": EventKind("warning", "{experiment} skipped: {reason}"),
    "experiment.stopped": EventKind("info", "{experiment} stopped: {reason}"),
    "experiment.paused": EventKind("warning", "{experiment} paused by the {origin} ({action}): {reason}", "drill"),
    "experiment.resumed": EventKind("info", "{experiment} goes on", "drill"),
    "experiment.stalled": EventKind(
        "error", "{experiment} stands still: nothing pauses it, and no epoch has ended for {silent_s} s", "limit_s"
    ),
    "experiment.stall_ended": EventKind("info", "{experiment} goes on after it stood still for {silent_s} s"),
    "experiment.extended": EventKind("info", "{experiment} gets {hours} h that {sources} left over"),
    "experiment.narrowed": EventKind(
        "warning", "{experiment} tries {tried} of {shapes:shape}, ranks {low} to {high}: {reason}"
    ),
    "experiment.finish_asked": EventKind("info", "{who} asks {experiment} to finish: its search ends now"),
    "experiment.skip_asked": EventKind("info", "{who} leaves {experiment} out: no search, no answer"),
    "experiment.skip_revoked": EventKind("info", "{who} takes {experiment} in again"),
    "experiment.advanced": EventKind("info", "{who} lets {experiment} begin next"),
    "experiment.point_enqueued": EventKind("info", "{who} enqueues a point of {experiment}: {point}"),
    "experiment.enlarged": EventKind(
        "info", "{who} adds {trials:trial} and {hours} h to {experiment}: {max_trials:trial} in all"
    ),
    "experiment.search_ended": EventKind(
        "info", "{experiment} ends its search after {trials:trial} ({reason})", "top seeds"
    ),
    "finalisation.set_aside": EventKind(
        "warning",
        "{who} sets the finalisation of {experiment} aside ({verb}); not counted any more: {count:trial}",
        "trials finalize",
    ),
    "experiment.warmed": EventKind("info", "{experiment} starts with {count:point} of {donor}", "points"),
    "experiment.resources_chosen": EventKind(
        "info", "{experiment} runs {trials:trial} at once with {threads:core} each; {reason}", "most figures"
    ),
    "experiment.concurrency_moved": EventKind(
        "info", "{experiment} runs {trials:trial} at once, {before} before: {reason}"
    ),
    "test.opened": EventKind(
        "warning",
        "test days of {dataset} opened for {experiment} by {by}: {reason}",
        "dataset_sha256 split horizon trials folds openings sealed_days earlier_looks",
    ),
    "test.refused": EventKind("warning", "test of {experiment} refused: {reason}", "by openings"),
    "test.scored": EventKind(
        "info",
        "{experiment} tested on {days:day} to {last_day}: loss {bce} in [{low}, {high}], prior {prior}",
        "result",
    ),
    "test.failed": EventKind("error", "{experiment} could not be tested: {error}", "outside"),
    "test.retried": EventKind("info", "the test of {experiment} may be opened again, asked by {who}", "openings"),
    "ray.started": EventKind("info", "Ray is up at {address}", "dashboard pid"),
    "dashboard.moved": EventKind("warning", "port {port} is taken: Ray's dashboard is at {dashboard}"),
    "ray.exited": EventKind("error", "Ray ended by itself with {status}"),
    "ray.session_lost": EventKind("error", "{path} of Ray's session is missing: Ray is started again"),
    "driver.started": EventKind("info", "driver {pid} of {experiment} started"),
    "driver.exited": EventKind("warning", "driver of {experiment} died: {reason}", "retry_in_s log"),
    "driver.stopped": EventKind(
        "warning", "driver of {experiment} ended by the {origin} ({action}): {reason}", "drill"
    ),
    "driver.hung": EventKind("error", "driver of {experiment} silent for {silent_s} s: killed"),
    "resources.lacked": EventKind("error", "{experiment} waits: {shortage}"),
    "resources.found": EventKind("info", "{experiment} goes on: a node has the resources of a trial"),
    "trial.added": EventKind("info", "trial {trial} added", "params source"),
    "trial.duplicated": EventKind(
        "info", "trial {trial} has the params of trial {of} and is not trained: it gets its end and value"
    ),
    "trial.started": EventKind(
        "info", "trial {trial} started, attempt {attempt}", "node worker_pid ray_trial_id resumed_step"
    ),
    "trial.reported": EventKind("info", "trial {trial} epoch {step}: {value}", "metrics checkpoint"),
    "trial.repeated": EventKind(
        "info",
        "trial {trial} epoch {step} trained again by attempt {attempt}, whose result counts: {value}",
        "metrics checkpoint",
    ),
    "trial.paused": EventKind("info", "trial {trial} paused: {reason}", "drill"),
    "trial.resumed": EventKind("info", "trial {trial} resumed", "reason drill"),
    "trial.hung": EventKind(
        "warning", "trial {trial} hung, silent for {silent_s} s (median {median_s} s); the stacks of its worker: {dump}"
    ),
    "report.trimmed": EventKind(
        "warning", "trial {trial} reports values that are neither numbers nor texts; they are left out: {left_out}"
    ),
    "checkpoint.rejected": EventKind(
        "warning", "trial {trial} cannot use {path}: attempt {attempt} goes on from before it"
    ),
    "device.refused": EventKind(
        "warning", "trial {trial} trains on the CPU: an accelerator computes something else than the CPU. {why}"
    ),
    "worker.stuck": EventKind(
        "error", "trial {trial} hangs and its worker {pid} cannot be killed, so its resources stay taken: {why}", "node"
    ),
    "trial.requeued": EventKind(
        "warning", "trial {trial} back in the queue: its attempt {attempt} was lost ({cause})", "error drill printed"
    ),
    "trial.reduced": EventKind("info", "trial {trial} will go on with less memory: {memory}"),
    "trial.finished": EventKind("info", "trial {trial} {end_reason}: {value}", "epochs seconds error record"),
    "trial.retried": EventKind("info", "trial {trial} is tried again, asked by {who}; it had ended as {end_reason}"),
    "trial.extended": EventKind(
        "info",
        "{who} extends trial {trial} by {epochs:epoch}, to epoch {last_step}; it had ended as {end_reason}",
        "from_step checkpoint after anew value",
    ),
    "trial.end_asked": EventKind("info", "{who} ends trial {trial} at its next report, with the value that it has"),
    "trial.discarded": EventKind("warning", "{who} discards trial {trial}: its search knows it no more"),
    "trial.restored": EventKind("info", "{who} restores trial {trial}: its search knows it again"),
    "trial.failed": EventKind("warning", "trial {trial} {end_reason}: {error}", "seconds record printed"),
    "result.refused": EventKind("warning", "{message} of trial {trial} attempt {attempt} was refused: {reason}"),
    "watchdog.started": EventKind("info", "watchdog of node {node} is up", "pid protected missing"),
    "watchdog.unprotected": EventKind("warning", "UNPROTECTED: node {node} has no temperature sensor ({why})"),
    "watchdog.lost": EventKind("error", "the watchdog of node {node} does not answer", "sensor facts"),
    "watchdog.failed": EventKind(
        "error", "the watchdog of node {node} meets an error; trials wait while it cannot read its sensors", "facts"
    ),
    "action.changed": EventKind("warning", "{node}: {action}, {reason}", "previous throttle_share shed_trials drill"),
    "governor.forced": EventKind(
        "warning", "{who} lets work go on for {for_s} s although the governor says {action}: {reason}", "node"
    ),
    "sensor.lost": EventKind("warning", "{node}: sensor {sensor} lost", "facts drill"),
    "sensor.stuck": EventKind("warning", "{node}: sensor {sensor} is stuck", "facts drill"),
    "sensor.hung": EventKind("warning", "{node}: sensor {sensor} hangs", "facts drill"),
    "sensor.recovered": EventKind("info", "{node}: sensor {sensor} is back", "facts drill"),
    "clock.jumped": EventKind("warning", "{node}: the clock jumped; all samples dropped", "facts"),
    "hardware.sampled": EventKind("info", "{node}: {summary}", "readings protected missing"),
    "drill.started": EventKind("warning", "drill {name} for {duration_s} s", "node drill"),
    "wake_lock.taken": EventKind("info", "the machine is kept awake: {reason}"),
    "wake_lock.refused": EventKind("warning", "the machine may fall asleep: {reason}"),
    "notice.sent": EventKind("info", "a message with {count:event} up to {up_to} was sent", "topics to"),
    "notice.failed": EventKind("warning", "no message could be sent: {error}; the next try in {retry_in_s} s"),
    "ping.failed": EventKind("warning", "the dead-man ping cannot be sent: {error}"),
    "ping.answered": EventKind("info", "the dead-man ping is answered again, {failures} failed before"),
    "checkpoints.pruned": EventKind("info", "removed of trials that have ended: {count:file}, {bytes}"),
    "removal.asked": EventKind("info", "{who} asked to delete the files of run {of}; its report stays"),
    "files.deleted": EventKind("info", "deleted of run {of}: {count:file}, {bytes}", "error"),
    "report.written": EventKind("info", "report at {path}"),
    "report.failed": EventKind("warning", "no report: {error}"),
}


def kind_of(name: str) -> EventKind:
    """Return the kind of an event; for an event of a later version one without fields."""
    return EVENTS.get(name) or EventKind("info", f"{name}, an event of another version")


def check_event(name: str, fields: dict[str, object]) -> None:
    """Raise ValueError for an event or a field that is not in EVENTS: a bug in the caller."""
    kind = EVENTS.get(name)
    if kind is None:
        raise ValueError(f"expected an event of EVENTS, found {name}; add it there")
    unknown = set(fields) - set(kind.fields)
    if unknown:
        raise ValueError(f"{name} has no field {', '.join(sorted(unknown))}; add it to EVENTS")


def render_markdown() -> str:
    """Return the whole text of docs/events.md."""
    lines = [
        "# Events",
        "",
        "One JSON object a line in `logs/PLAN.jsonl`. Each has `ts` (UTC), `seq` (counts up), `level`, `event`,",
        "`msg`, `run`, and where it applies `experiment`, `trial`, `attempt`; its own fields stand below.",
        "Each line ends with `prev`, the SHA-256 of the line before it, newline included.",
        "This page is made from `supervisor/store/event_catalog.py` by `python -m supervisor.store.event_catalog`.",
        "",
        "| event | level | says | fields |",
        "|---|---|---|---|",
    ]
    for name, kind in EVENTS.items():
        fields = ", ".join(f"`{field}`" for field in kind.fields) or "–"
        lines.append(f"| `{name}` | {kind.level} | {kind.shown} | {fields} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render_markdown(), end="")
