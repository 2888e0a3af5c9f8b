"""A user's trainable is found or refused with a sentence, and the end of its code is told."""

from __future__ import annotations

import pytest

from actors.trial.user_code import check, error_text

MODULES = {
    "fine_one": "def objective(config): pass\nclass Not: pass\n",
    "two_arguments": "def objective(config, data): pass\n",
    "broken_syntax": "def objective(config:\n",
    "raises_at_import": "import json\n\njson.loads('{')\n",
    "exits_at_import": "import sys\nsys.exit('a script')\n",
    "needs_more": "import no_such_library_anywhere\n",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("name", "error", "remedy"),
    [
        ("fine_one:objective", None, None),
        ("fine_one:objectiv", "fine_one has no 'objectiv'", "did you mean objective?"),
        ("fine_one:Not", "is a class, but not a ray.tune.Trainable", None),
        ("two_arguments:objective", "this one takes (config, data)", "put the rest into the plan's config"),
        ("broken_syntax:objective", "SyntaxError: '(' was never closed (broken_syntax.py, line 1)", "mend the module"),
        ("raises_at_import:objective", "JSONDecodeError", "mend the module"),
        ("exits_at_import:objective", "SystemExit: a script", "mend the module"),
        ("needs_more:objective", "No module named 'no_such_library_anywhere'", "install its package"),
    ],
)
def test_a_trainable_is_checked_as_a_driver_finds_it(modules, name, error, remedy):
    found = check(name)
    if error is None:
        assert found == {"error": None, "remedy": None}
    else:
        assert error in found["error"]
        assert remedy is None or remedy in found["remedy"]


def text_of(error):
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001 - the test's own
        return error_text(raised)


@pytest.mark.parametrize("error", [SystemExit(), SystemExit(0), SystemExit(None), SystemExit(False)], ids=repr)
def test_an_exit_with_status_0_is_a_normal_end(error):
    assert text_of(error) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SystemExit(3), "it called sys.exit(3)"),
        (SystemExit("bye"), "it called sys.exit('bye')"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError("n is three"), "ValueError: n is three"),
        (ValueError("{'CPU': 1} cannot fit into any bundles for the placement group"), "add `nested: [{cpu: 1}]`"),
    ],
    ids=repr,
)
def test_other_ends_have_their_line_and_their_cause(error, words):
    text = text_of(error)
    assert words in text
    assert "test_user_code.py" in text


def test_rays_own_end_of_a_process_goes_on():
    error = SystemExit(1)
    error.ray_terminate_msg = "SIGTERM"
    with pytest.raises(SystemExit):
        text_of(error)
