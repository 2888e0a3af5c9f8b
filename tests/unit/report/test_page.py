"""The report of a whole or partial run: its files, its page and its list of what is missing."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.cli.end_table import short_params, text_table
from supervisor.report.__main__ import main, write
from supervisor.report.files import best_json, results_csv
from supervisor.report.page import page
from supervisor.report.view import missing, read_view, verdict
from tests.unit.report.run_views import BEGAN, NOW, experiment, snapshot_of, ten_trials, trial


class Reader(HTMLParser):
    """The tags, attributes, text and unclosed tags of a page."""

    VOID = frozenset({"meta", "br", "link", "img", "path", "use", "rect", "image"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def drawn(view: dict[str, Any], folder: Path) -> Reader:
    """Write the whole report, which draws its figures, and read its page."""
    return Reader(write(view, folder, NOW).read_text())


def text_of(view: dict[str, Any]) -> str:
    """Return the text of a page without figures."""
    return Reader(page(read_view(view, NOW))).text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run of two finished experiments, drawn once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("report")
    write(snapshot_of(*(experiment(name, "EXITED", ten_trials()) for name in ("a", "b"))), folder, NOW)
    return folder


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def reader(html: str) -> Reader:
    return Reader(html)


def test_a_whole_run_gives_every_file(folder: Path, reader: Reader) -> None:
    assert "Nothing is missing" in reader.text
    assert reader.open == []
    assert {f.name for f in (folder / "figures").iterdir()} == {
        "overview.png", "a-search.png", "a-parameters.png", "b-search.png", "b-parameters.png", "importance.png",
    }  # fmt: skip
    assert sum(tag == "svg" for tag, _ in reader.tags) == 6
    best = json.loads((folder / "a" / "best.json").read_text())
    assert (best["value"], best["trial"], best["trials"], best["training_s"]) == (0.5, 0, 10, 5.0)
    numbers = json.loads((folder / "report.json").read_text())
    assert numbers["experiments"][0]["best"] == best
    assert numbers["missing"] == []
    assert not [f for f in folder.rglob(".*") if f.is_file()], "no temporary file is left"


def test_the_page_makes_no_request_and_runs_no_script(reader: Reader, html: str) -> None:
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object", "embed"}
    for _, attributes in reader.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    styles = re.findall(r"url\(([^)]*)\)|@import", html)
    assert all(target.startswith("#") for target in styles)


def test_ids_are_unique_and_every_reference_has_its_target(reader: Reader, html: str) -> None:
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    assert wanted
    assert wanted <= set(ids)


def test_figures_have_a_description_and_take_the_colour_of_the_page(reader: Reader, html: str) -> None:
    figures = [attributes for tag, attributes in reader.tags if tag == "svg"]
    assert all(f["role"] == "img" and len(f["aria-label"] or "") > 30 for f in figures)
    assert "currentColor" in html
    assert "#0b0c0e" not in html


def test_tables_have_captions_and_headings_with_scope(reader: Reader) -> None:
    names = [tag for tag, _ in reader.tags]
    assert names.count("table") == names.count("caption") == 3
    assert all("scope" in attributes for tag, attributes in reader.tags if tag == "th")


def test_only_frames_that_scroll_by_themselves_are_wider_than_a_phone(html: str) -> None:
    """Tables and figures are in such frames, captions are as wide as the screen, and other text may break anywhere."""
    assert html.count('<div class="scroll"><table><caption><span>') == html.count("<table") > 0
    assert html.count('<div class="scroll"><svg ') == html.count("<svg ") > 0
    style = html[html.index("<style>") : html.index("</style>")]
    assert ".scroll { overflow-x: auto;" in style
    wide = re.findall(r"([^{};]+)\{[^{}]*?(?<!max-)width: (?!100%|0)[^;}]+", style)
    assert {selector.strip() for selector in wide} == {"figure svg", ".params", "tbody th"}


def test_a_run_in_progress_shows_its_progress() -> None:
    running = [trial(0, 0.5), trial(1, None, None, held_for="node at 91 C")]
    view = snapshot_of(
        experiment("a", "EXITED", ten_trials()), experiment("b", "RUNNING", running), experiment("c", "STOPPED", []),
        state="RUNNING",
        commands=[{"action": "PAUSE", "origin": "operator", "who": "ann", "reason": "meeting", "since_wall": BEGAN,
                   "drill": False}],
        lost=[{"experiment": "b", "trial": 1, "cause": "node at 91 C", "seconds": 240.0}],
    )  # fmt: skip
    text = text_of(view)
    assert "The run is RUNNING: 1 of 3 experiments have ended." in text
    assert "b: RUNNING, 1 of 10 trials have ended." in text
    assert "c: not started." in text
    assert "PAUSED by ann: meeting, for 2 h 00 min" in text
    assert "b, trial 1: node at 91 C" in text
    assert "4 min 00 s" in text


def test_a_run_at_work_shows_when_it_ends_and_one_that_rests_does_not() -> None:
    eta = {"median_s": 7500.0, "low_s": 6000.0, "high_s": 10_200.0}
    words = "ETA 2 h 05 min (1 h 40 min to 2 h 50 min)"
    at_work = {**experiment("a", "RUNNING", ten_trials()), "eta": eta}
    assert text_of(snapshot_of(at_work, state="RUNNING", eta=eta)).count(words) == 2
    at_rest = {**at_work, "state": "STOPPED"}
    assert words not in text_of(snapshot_of(at_rest, state="STOPPED", eta=eta))
    assert "ETA" not in text_of(snapshot_of(experiment("a", "EXITED", ten_trials())))


def test_failed_and_skipped_experiments_show_the_reason() -> None:
    view = snapshot_of(
        experiment("a", "FATAL", [trial(0, None, "diverged", error="Traceback\nDiverged: <nan>")], "its driver died"),
        experiment("b", "SKIPPED", [], "needs 31.2 GiB; 22.0 GiB are free"),
    )
    text = text_of(view)
    assert "a: failed after 1 of 10 trials. its driver died" in text
    assert "a: trials without a value: 1 diverged." in text
    assert "a: no trial has a value." in text
    assert "b: skipped. needs 31.2 GiB; 22.0 GiB are free" in text
    assert "Diverged: <nan>" in text
    assert best_json(read_view(view, NOW).experiments[0], NOW) is None


def test_a_duplicate_names_the_trial_that_it_repeats() -> None:
    repeated = trial(1, 0.5, "pruned", results=[], record={"duplicate_of": 0})
    view = snapshot_of(experiment("a", "EXITED", [trial(0, 0.5, "pruned"), repeated]))
    assert text_of(view).count("as trial 0, whose parameters it has: not trained again") == 1
    rows = list(csv.DictReader(io.StringIO(results_csv(read_view(view, NOW)))))
    assert [row["duplicate_of"] for row in rows] == ["", "0"]


def test_experiments_that_lack_the_same_share_a_sentence() -> None:
    view = snapshot_of(experiment("a", "STOPPED", []), experiment("b", "STOPPED", []), state="RUNNING")
    assert missing(read_view(view, NOW))[1:] == ["a, b: not started."]


def test_a_run_without_experiments_says_so() -> None:
    assert "The run has no experiment." in text_of(snapshot_of())


def test_a_run_that_was_never_started_has_a_report(tmp_path: Path) -> None:
    text = drawn(snapshot_of(experiment("a", "STOPPED", []), state="STOPPED"), tmp_path).text
    assert "The run is STOPPED: 0 of 1 experiments have ended." in text


@pytest.mark.parametrize(
    "data",
    [
        {"ticker": "SP500", "is_fallback": True, "wanted": "SPY"},
        {"ticker": "SP500", "source": "package arch.data.sp500"},
    ],
)
def test_the_embedded_sample_is_named_loudly(data: dict[str, Any]) -> None:
    text = text_of(snapshot_of(experiment("a", "EXITED", ten_trials()), data=data))
    assert "Data: the EMBEDDED SAMPLE" in text
    assert ("NOT SPY" in text) == ("wanted" in data)


def test_imported_data_are_not_called_a_sample() -> None:
    data = {"ticker": "SPY", "is_fallback": False, "wanted": "SPY", "source": "file SPY_D.csv"}
    text = text_of(snapshot_of(experiment("a", "EXITED", ten_trials()), data=data))
    assert "EMBEDDED" not in text
    assert "file SPY_D.csv" in text


def test_text_of_a_user_never_becomes_markup(tmp_path: Path) -> None:
    """Names, reasons, parameters and errors come from plans and trainables."""
    evil = '<script>alert("x")</script>'
    trials = [trial(n, 0.5 + n, params={evil: evil}, error=evil) for n in range(3)]
    space = {evil: {"type": "categorical", "choices": [evil, "b"]}}
    view = snapshot_of(experiment("a", "FATAL", trials, evil, space=space, metric=evil), data={evil: evil})
    page = drawn(view, tmp_path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert 'alert("x")' in page.text


def test_the_best_of_a_maximised_metric_is_the_largest() -> None:
    run = read_view(snapshot_of(experiment("a", "EXITED", ten_trials(), mode="max")), NOW)
    best = best_json(run.experiments[0], NOW)
    assert best is not None
    assert best["value"] == 0.59


def test_results_have_a_row_per_trial_and_a_column_per_parameter() -> None:
    other = [trial(0, 0.7, params={"depth": 3})]
    run = read_view(snapshot_of(experiment("a", "EXITED", ten_trials()), experiment("b", "EXITED", other)), NOW)
    rows = list(csv.DictReader(io.StringIO(results_csv(run))))
    assert len(rows) == 11
    assert rows[0]["params.learning_rate"] == "1e-05"
    assert rows[0]["params.depth"] == ""
    assert rows[10]["params.depth"] == "3"
    assert rows[3]["value"] == "0.51"
    assert rows[3]["d_model"] == rows[3]["param_count"] == ""
    assert rows[3]["epochs"] == "2"
    assert rows[3]["cell.horizon"] == "1"


def test_trials_of_the_finalisation_are_not_part_of_the_search() -> None:
    final = [trial(n, 0.4, source="finalize") for n in (10, 11)]
    run = read_view(snapshot_of(experiment("a", "EXITED", [*ten_trials(), *final])), NOW)
    assert len(run.experiments[0].valued) == 10


def test_trials_that_were_set_aside_stay_in_the_table_and_count_for_nothing(tmp_path: Path) -> None:
    aside = [trial(n, None, "set_aside", source="set_aside") for n in (10, 11)]
    view = snapshot_of(experiment("a", "STOPPED", [*ten_trials(), *aside]))
    run = read_view(view, NOW)
    assert len(run.experiments[0].valued) == 10
    assert [row["end_reason"] for row in csv.DictReader(io.StringIO(results_csv(run)))][10:] == ["set_aside"] * 2
    said = " ".join(missing(run))
    assert "2 trials of a finalisation that was set aside count no more." in said
    assert "without a value" not in said
    assert drawn(view, tmp_path).open == []


def test_a_missing_finalisation_is_reported() -> None:
    view = snapshot_of(experiment("a", "EXITED", ten_trials(), finalize={"top": 1, "seeds": 2}))
    assert any("not finalised" in sentence for sentence in missing(read_view(view, NOW)))


VALUES = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)
REASONS = st.sampled_from([None, "finished", "pruned", "early_stopped", "diverged", "oom", "error", "set_aside"])
STATES = st.sampled_from(
    ["STOPPED", "STARTING", "RUNNING", "PAUSED", "BACKOFF", "STOPPING", "EXITED", "FATAL", "SKIPPED"]
)


TRIALS = st.lists(st.tuples(VALUES, REASONS), max_size=12)


def mixture(kinds: list[tuple[str, list[tuple[float | None, str | None]]]]) -> dict[str, Any]:
    experiments = [
        experiment(f"e{place}", state, [trial(n, value, reason) for n, (value, reason) in enumerate(trials)])
        for place, (state, trials) in enumerate(kinds)
    ]
    return snapshot_of(*experiments, state="RUNNING")


@given(kinds=st.lists(st.tuples(STATES, TRIALS), max_size=3))
def test_no_mixture_of_states_and_values_breaks_the_page(
    kinds: list[tuple[str, list[tuple[float | None, str | None]]]],
) -> None:
    view = mixture(kinds)
    assert Reader(page(read_view(view, NOW))).open == []
    text_table(view)


@settings(max_examples=4)  # each draws three figures
@given(state=STATES, trials=TRIALS)
def test_no_mixture_of_values_breaks_the_figures(
    state: str, trials: list[tuple[float | None, str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert drawn(mixture([(state, trials)]), tmp_path_factory.mktemp("mixture")).open == []


def test_an_experiment_without_its_answer_is_incomplete_and_the_page_says_why() -> None:
    why = "its test was opened once and has no result: no disk"
    one = experiment("a", "EXITED", ten_trials(), trainable="patchtst") | {
        "finalized": {"val_loss": 0.5},
        "missing": why,
    }
    view = read_view(snapshot_of(one, experiment("b", "EXITED", ten_trials())), NOW)
    assert [verdict(each) for each in view.experiments] == ["incomplete", "passed"]
    assert missing(view) == [f"a: finalised, but not tested: {why}."]


def test_the_text_table_has_a_line_per_experiment_and_counts_them() -> None:
    lines = text_table(
        snapshot_of(
            experiment("2M-h1", "EXITED", ten_trials()),
            experiment("2B-h1", "SKIPPED", [], "too large"),
            experiment("b", "RUNNING", [trial(0, 0.5)]),
        ),
        now_wall=NOW,
    ).splitlines()
    assert lines[0].split() == ["experiment", "state", "trials", "best", "best", "params", "duration"]
    assert lines[2].split() == [
        "2M-h1",
        "EXITED",
        "10/10",
        "0.5",
        "learning_rate=1e-05",
        "batch_size=64",
        "1",
        "h",
        "00",
        "min",
    ]
    assert lines[4].endswith("2 h 00 min")
    assert "2B-h1 SKIPPED: too large" in lines
    assert lines[-1] == "passed 1, failed 0, skipped 1, unfinished 1"


def test_the_text_table_shows_the_final_mean_where_there_is_one() -> None:
    final = experiment("a", "EXITED", ten_trials()) | {"finalized": {"val_loss": 0.5124}}
    lines = text_table(snapshot_of(final, experiment("b", "EXITED", ten_trials()))).splitlines()
    assert lines[0].split()[3:5] == ["best", "final"]
    assert lines[2].split()[3:5] == ["0.5", "0.5124"]
    assert lines[3].split()[3:5] == ["0.5", "-"]


def test_long_parameters_are_cut_with_an_ellipsis() -> None:
    short = short_params({f"parameter_{n}": 0.123456 for n in range(9)}, max_characters=30)
    assert len(short) == 30
    assert short.endswith("…")


def test_a_wrong_command_line_gets_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_machines_choice_of_concurrency_is_shown_with_its_figures() -> None:
    chosen = experiment("a", "EXITED", ten_trials(), chosen="2 x 1: 90 windows/s, 1 x 2: 60")
    assert "2 x 1: 90 windows/s, 1 x 2: 60" in page(read_view(snapshot_of(chosen), NOW))
