"""Writes the report as one HTML page without scripts or requests, for light and dark. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from supervisor import __product__, __version__
from supervisor.domain.command_text import pauses
from supervisor.domain.lifecycle import AT_WORK
from supervisor.formatting import duration, eta_words, short_value
from supervisor.report.files import iso
from supervisor.report.view import ExperimentRow, RunView, TrialRow, headline, missing, verdict

MAX_TRIAL_ROWS = 500
"""For each experiment on the page; results.csv has all of them."""

_CSS = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1d21; --soft: #5d636e; --line: #d9dce1; --tint: #f4f5f7;
  --good: #1d7a4c; --bad: #b3261e; --warn-page: #fff1d6; --warn-ink: #6b4300; --warn-line: #e0a23a; }
@media (prefers-color-scheme: dark) { :root { --page: #14161a; --ink: #e6e8eb; --soft: #a0a6b1; --line: #343840;
  --tint: #1d2026; --good: #6fd3a0; --bad: #ff8d85; --warn-page: #3a2a0a; --warn-ink: #ffd898; --warn-line: #a9782a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1, h2, h3, p, li, summary { overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; }
.lead { font-size: 1.1rem; }
.soft { color: var(--soft); }
.warning { background: var(--warn-page); color: var(--warn-ink); border: 2px solid var(--warn-line); border-radius: 6px;
  padding: .7rem 1rem; margin: 1rem 0; font-weight: 600; max-width: none; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .88rem; width: 100%; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
/* A caption is as wide as the screen, not as its table, and stays while the table scrolls. */
caption span { display: block; position: sticky; left: 0; max-width: min(46rem, 100vw - 2.5rem); }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--line); white-space: nowrap; }
tbody th { min-width: 6rem; } .range { white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.params { font-family: ui-monospace, Consolas, Menlo, monospace; font-size: .8rem; overflow-wrap: anywhere; }
.params { display: inline-block; min-width: 24rem; } .params span { white-space: nowrap; }
.state { font-weight: 600; } .passed { color: var(--good); } .failed, .incomplete { color: var(--bad); }
.skipped, .unfinished { color: var(--soft); }
figure { margin: 1rem 0; } figure .scroll { margin: 0; }
figure svg { width: 100%; height: auto; min-width: 36rem; max-width: 60rem; display: block; }
figcaption { color: var(--soft); font-size: .88rem; }
dl { display: grid; grid-template-columns: fit-content(40%) 1fr; gap: .15rem 1rem; margin: .5rem 0; font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; } dt, dd { overflow-wrap: anywhere; min-width: 0; }
summary { cursor: pointer; color: var(--soft); }
@media print { body { max-width: none; } details { display: none; } }
"""


@dataclass(frozen=True)
class Drawing:
    """A finished figure. `name` is a file name without its suffix, `caption` describes the figure in plain text.

    `svg` goes into the page as it is: it is our own, and trusted.
    """

    name: str
    caption: str
    svg: str
    png: bytes


def page(
    run: RunView,
    overview: Sequence[Drawing] = (),
    by_experiment: Mapping[str, Sequence[Drawing]] | None = None,
    answer: Sequence[str] = (),
    doubts: Sequence[str] = (),
    evidence: str = "",
    tables: Mapping[str, str] | None = None,
) -> str:
    """Write the whole document: the answer, the doubts, the experiments, and the drawings and tables of each.

    `answer` and `doubts` are sentences; `evidence` is HTML, such as evaluation_section gives, and follows the table of
    experiments. `tables` is HTML by experiment.
    """
    drawings, more = by_experiment or {}, tables or {}
    body = [
        f"<h1>{escape(run.plan)}</h1>",
        *(f'<p class="lead">{escape(sentence)}</p>' for sentence in answer),
        f'<p class="soft">{escape(headline(run))}.</p>',
        _sample_warning(run),
        _doubts(run, doubts),
        "<h2>Experiments</h2>",
        _experiments_table(run),
        *map(picture, overview),
        evidence,
        *(_experiment(e, drawings.get(e.name, ()), more.get(e.name, "")) for e in run.experiments),
        "<h2>The run</h2>",
        _run_facts(run),
        _lost(run),
        _commands(run),
    ]
    return _DOCUMENT.format(
        title=escape(f"{run.plan}: report"), css=_CSS, body="\n".join(part for part in body if part)
    )


_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def picture(shown: Drawing) -> str:
    """Write a figure with its caption."""
    label = escape(shown.caption, quote=True)
    svg = shown.svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return f'<figure><div class="scroll">{svg}</div><figcaption>{escape(shown.caption)}</figcaption></figure>'


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]], numeric: frozenset[int]) -> str:
    """Write an accessible table. Cells are HTML; a row's first is its heading; columns in `numeric` are aligned."""
    kinds = [' class="number"' if column in numeric else "" for column in range(len(headings))]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(headings, kinds, strict=True))
    lines = []
    for row in rows:
        first, *others = row
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(others, kinds[1:], strict=True))
        lines.append(f'<tr><th scope="row"{kinds[0]}>{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table><caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _sample_warning(run: RunView) -> str:
    if not run.on_sample:
        return ""
    ticker, wanted = str(run.data.get("ticker") or "S&P 500"), run.data.get("wanted")
    instead = f", NOT {wanted}" if run.data.get("is_fallback") and wanted else ""
    return (
        f'<p class="warning" role="note">Data: the EMBEDDED SAMPLE{escape(instead)}. It is {escape(ticker)}, daily '
        "bars of 1999 to 2018 that ship with a library. They show that everything works; no figure here tells "
        "anything about another market or a later year.</p>"
    )


def _doubts(run: RunView, doubts: Sequence[str]) -> str:
    """List what is missing from the run, then the doubts about its answer."""
    gaps = missing(run)
    complete = "" if gaps else '<p class="soft">Nothing is missing: every experiment ended with all of its trials.</p>'
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in (*gaps, *doubts))
    return complete + (f"<h2>Doubts</h2><ul>{items}</ul>" if items else "")


def _experiments_table(run: RunView) -> str:
    headings = ("experiment", "state", "trials", "ended by", "best", "trial", "final", "best parameters", "training",
                "duration")  # fmt: skip
    rows = [_experiment_cells(experiment, run.now_wall) for experiment in run.experiments]
    if not rows:
        return "<p>The run has no experiments.</p>"
    caption = (
        "Best is the best value of the experiment's metric, lucky seeds included; final is the mean of the finally "
        "chosen configuration over fresh seeds; training is without pauses and waiting."
    )
    return table(caption, headings, rows, frozenset({2, 4, 5, 6, 8, 9}))


def _experiment_cells(experiment: ExperimentRow, now_wall: float) -> tuple[str, ...]:
    best = experiment.best
    reasons = ", ".join(f"{n} {reason}" for reason, n in experiment.end_reasons.items())
    notes = [experiment.reason] if experiment.reason else []
    notes += [eta_words(experiment.eta)] if experiment.state in AT_WORK and experiment.eta is not None else []
    why = "".join(f'<br><span class="soft">{escape(note)}</span>' for note in notes)
    return (
        escape(experiment.name),
        f'<span class="state {verdict(experiment)}">{experiment.state}</span>{why}',
        f"{experiment.ended}/{experiment.max_trials}",
        escape(reasons) or "–",
        "–" if best is None else f"{best.value:.5g}",
        "–" if best is None else str(best.number),
        "–" if experiment.finalized is None else f"{experiment.finalized['val_loss']:.5g}",
        "–" if best is None else params_html(best),
        duration(experiment.training_s),
        duration(experiment.duration_s(now_wall)).replace("?", "–"),
    )


def params_html(trial: TrialRow) -> str:
    """Write the sampled parameters, and their architecture where the trial recorded one."""
    shown: dict[str, Any] = dict(trial.params)
    for name in ("d_model", "n_layers", "n_heads", "d_ff"):
        if trial.architecture is not None and name in trial.architecture:
            shown[name] = trial.architecture[name]
    if trial.param_count is not None:
        shown["param_count"] = f"{trial.param_count:,}"
    pairs = (f"<span>{escape(name)}={escape(short_value(value))}</span>" for name, value in shown.items())
    return f'<span class="params">{" ".join(pairs)}</span>'


def _experiment(experiment: ExperimentRow, drawings: Sequence[Drawing], tables: str) -> str:
    if not experiment.trials:
        return ""
    shown = experiment.trials[:MAX_TRIAL_ROWS]
    left_out = len(experiment.trials) - len(shown)
    more = f'<p class="soft">{left_out} more trials are in results.csv.</p>' if left_out else ""
    headings = ("trial", "state", "ended by", experiment.metric, "epochs", "training", "parameters")
    trials = table(f"Trials of {experiment.name}", headings, map(_trial_cells, shown), frozenset({3, 4, 5}))
    chosen = experiment.spec.get("chosen")
    share = f"Trials at once x threads, chosen by the machine: {chosen}" if chosen else ""
    tables += f'<p class="soft">{escape(share)}</p>' if share else ""
    return (
        f"<section><h2>{escape(experiment.name)}</h2>{tables}{''.join(map(picture, drawings))}"
        f"<details><summary>All {len(experiment.trials)} trials</summary>{trials}{more}</details></section>"
    )


def _trial_cells(trial: TrialRow) -> tuple[str, ...]:
    notes = [trial.end_reason.value if trial.end_reason else trial.held_for or "–"]
    if trial.duplicate_of is not None:
        notes.append(f"as trial {trial.duplicate_of}, whose parameters it has: not trained again")
    if trial.error and trial.error.strip():
        notes.append(trial.error.strip().splitlines()[-1][:200])
    return (
        str(trial.number),
        trial.state,
        "<br>".join(escape(note) for note in notes),
        "–" if trial.value is None else f"{trial.value:.5g}",
        str(len(trial.results)),
        duration(trial.training_s),
        params_html(trial),
    )


def _run_facts(run: RunView) -> str:
    facts = {
        "run": run.run_id,
        "plan": f"{run.plan} ({run.source})",
        "state": run.state.value,
        "began": iso(run.created_wall),
        "ended": iso(run.ended_wall) or "not yet",
        **({"expected end": eta_words(run.eta)} if run.state in AT_WORK and run.eta is not None else {}),
        "report made": iso(run.now_wall),
        **{f"data: {name}": value for name, value in run.data.items()},
        "fingerprint": run.fingerprint,
        "made by": f"{__product__} {__version__}",
    }
    pairs = (f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(pairs)}</dl>"


def _lost(run: RunView) -> str:
    if not run.lost:
        return ""
    rows = [(escape(cause), duration(seconds)) for cause, seconds in run.lost.items()]
    caption = "Time that trials were held or waited for another attempt, summed over trials"
    return f"<h3>Time that was not training</h3>{table(caption, ('cause', 'time'), rows, frozenset({1}))}"


def _commands(run: RunView) -> str:
    """List the commands in force and the held trials at the time of the report."""
    view = {"commands": run.commands, "daemon": {"now_wall": run.now_wall}}
    lines = [f"<li>{escape(line)}</li>" for line in pauses(view)]
    held = [f"<li>{escape(e.name)}, trial {t.number}: {escape(t.held_for)}</li>"
            for e in run.experiments for t in e.trials if t.held_for]  # fmt: skip
    if not lines and not held:
        return ""
    return f"<h3>Held at the time of this report</h3><ul>{''.join(lines + held)}</ul>"
