"""README and docs/ tell the truth: links, files, modules, targets and the small search exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.plan.expansion import expand
from supervisor.plan.loader import load_plan
from tests.contract.test_imports import MAY_IMPORT

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("_sweep_launcher", "actors", "benchmarks", "docs", "supervisor", "tests", "training", "tune_configs")
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
EXAMPLES = {
    "my_search.py", "my_search.yaml", "train.py", "sweep.yaml", "plan.yaml", "tune_configs/NAME.yaml",
    "supervisor.sensors.fan",
}  # fmt: skip
"""Names of a user's own files, of files of a run, and of a provider to be written."""
FILES = [name for name in TRACKED if (ROOT / name).exists()]


def _code(page: Path) -> list[str]:
    """List the spans and blocks of code of a page, without its generated tree."""
    text = re.sub(r"<!-- tree:.*?<!-- end of tree -->", "", page.read_text(), flags=re.DOTALL)
    return re.findall(r"`([^`]+)`", text)


def _exists(path: str) -> bool:
    """Return whether a tracked file or folder has this path, from the checkout or below a room."""
    ends = f"/{path.rstrip('/')}"
    return any(f"/{name}".endswith(ends) or f"{ends}/" in f"/{name}" for name in FILES)


def _is_module_or_attribute(name: str) -> bool:
    """Return whether `package.module` is a module or folder here, or the name of something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = "/".join(parts[:end])
        if f"{path}.py" in FILES:
            text = (ROOT / f"{path}.py").read_text()
            return end == len(parts) or parts[end] in text
        if end == len(parts) and f"{path}/__init__.py" in FILES:
            return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_a_page_names_exists(page: Path) -> None:
    paths = re.findall(r"(?<![\w/~.*-])([\w./-]+\.(?:py|md|yaml|toml))\b", "\n".join(_code(page)))
    ours = [path for path in paths if "/" not in path or path.split("/")[0] in PACKAGES]
    assert [path for path in ours if not _exists(path) and path not in EXAMPLES] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_module_that_a_page_names_exists(page: Path) -> None:
    names = re.findall(rf"\b((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)\b", "\n".join(_code(page)))
    modules = [name for name in names if not name.endswith((".py", ".md"))]
    assert [name for name in modules if name not in EXAMPLES and not _is_module_or_attribute(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_test_module_that_a_page_names_exists(page: Path) -> None:
    stems = {Path(name).stem for name in FILES}
    assert [n for n in re.findall(r"`(test_\w+)`", page.read_text()) if n not in stems and not _is_a_test(n)] == []


def _is_a_test(name: str) -> bool:
    return any(f"def {name}(" in (ROOT / file).read_text() for file in FILES if file.startswith("tests/"))


def test_readme_is_short_and_its_map_has_every_room() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    rooms = {name.replace(".", "/") for name in MAY_IMPORT if not name.startswith(("_", "actors."))}
    assert [room for room in sorted(rooms) if f"`{room}/`" not in text] == []


def test_readmes_own_search_is_a_valid_plan(tmp_path: Path) -> None:
    blocks = dict(re.findall(r"^```(python|yaml)\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL))
    (tmp_path / "my_search.py").write_text(blocks["python"])
    (tmp_path / "my_search.yaml").write_text(blocks["yaml"])
    loaded = load_plan(tmp_path / "my_search.yaml")
    assert len(expand(loaded.plan)) == 1
    assert f"def {str(loaded.plan.trainable).partition(':')[2]}(config)" in blocks["python"]
    assert sum(bool(line.strip()) for block in blocks.values() for line in block.splitlines()) <= 15


@pytest.mark.parametrize("command", ["supervisord", "supervisorctl"])
def test_the_manual_has_each_verb(command: str) -> None:
    program = f"from supervisor.cli.{command} import main; main(['--help'])"
    shown = subprocess.run([sys.executable, "-P", "-c", program], cwd=ROOT, capture_output=True, text=True)
    verbs = re.findall(r"^ {4}([a-z-]+)", shown.stdout, re.MULTILINE)
    assert len(verbs) >= 5
    manual = (ROOT / "docs" / "commands.md").read_text().partition(f"\n## {command}\n")[2].partition("\n## S")[0]
    assert [verb for verb in verbs if not re.search(rf"`{verb}[ `]", manual)] == []
