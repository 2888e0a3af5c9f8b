"""Check the installation: each package, the four commands, pinned versions, the targets of `make`."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools import find_packages

from tests.waits import NET_S

CHECKOUT = Path(__file__).resolve().parents[2]
ROOMS = ("supervisor", "actors", "training", "tune_configs")
COMMANDS = {"supervisord": "supervisord", "supervisorctl": "supervisorctl", "sweepd": "supervisord",
            "sweepctl": "supervisorctl"}  # fmt: skip
TARGETS = {"help", "install", "run", "check", "test", "test-all", "test-slow", "bench", "chaos", "clean", "verify"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins() -> dict[str, Requirement]:
    """The constraints by canonical name; fails on a name that stands there twice."""
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    named = {canonicalize_name(pin.name): pin for pin in found}
    assert len(named) == len(found)
    return {str(name): pin for name, pin in named.items()}


def package_files() -> Iterator[Path]:
    """Every file in the rooms that is not Python's own refuse."""
    for room in ROOMS:
        for path in (CHECKOUT / room).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(CHECKOUT)


def test_every_folder_with_modules_is_found_as_a_package_and_no_other_is(pyproject: dict[str, Any]) -> None:
    on_disk = {".".join(path.parent.parts) for path in package_files() if path.suffix == ".py"}
    found = find_packages(str(CHECKOUT), **pyproject["tool"]["setuptools"]["packages"]["find"])
    assert sorted(on_disk) == sorted(found)


def test_every_data_file_of_a_package_is_installed_with_it(pyproject: dict[str, Any]) -> None:
    patterns = pyproject["tool"]["setuptools"]["package-data"]
    left_out = [
        str(path)
        for path in package_files()
        if path.suffix != ".py"
        and not any(fnmatch(path.name, pattern) for pattern in patterns.get(".".join(path.parent.parts), []))
    ]
    assert left_out == []


def test_the_four_commands_start_in_the_launcher(pyproject: dict[str, Any]) -> None:
    expected = {name: f"_sweep_launcher:{function}" for name, function in COMMANDS.items()}
    assert pyproject["project"]["scripts"] == expected
    assert pyproject["tool"]["setuptools"]["py-modules"] == ["_sweep_launcher"]
    installed = {entry.name: entry for entry in distribution("sweep-supervisor").entry_points}
    assert {name: entry.value for name, entry in installed.items()} == expected
    for name, function in COMMANDS.items():
        assert installed[name].load().__name__ == function


def test_the_distribution_cannot_be_uploaded_by_mistake(pyproject: dict[str, Any]) -> None:
    """PyPI refuses every classifier that begins with `Private ::`."""
    assert "Private :: Do Not Upload" in pyproject["project"]["classifiers"]


def test_the_distribution_and_the_package_state_one_version(pyproject: dict[str, Any]) -> None:
    import supervisor

    assert pyproject["project"]["name"] == supervisor.__product__
    assert pyproject["project"]["version"] == supervisor.__version__ == version("sweep-supervisor")


def test_the_python_versions_are_those_that_the_makefile_accepts(pyproject: dict[str, Any]) -> None:
    accepted = SpecifierSet(pyproject["project"]["requires-python"])
    minors = [f"3.{minor}" for minor in range(8, 20) if accepted.contains(f"3.{minor}.0")]
    classifiers = [text.rpartition(" ")[2] for text in pyproject["project"]["classifiers"] if ":: Python :: 3." in text]
    assert classifiers == minors
    searched = re.search(r",(python3\.[^)]*) python3\)", (CHECKOUT / "Makefile").read_text(encoding="utf-8"))
    assert searched is not None
    assert sorted(searched.group(1).split()) == sorted(f"python{minor}" for minor in minors)


def test_every_pin_is_one_exact_public_version(pins: dict[str, Requirement]) -> None:
    """No `+cpu`: a constraint with a local version would refuse the same release built for another device."""
    for pin in pins.values():
        (only,) = pin.specifier
        assert only.operator == "==", pin
        assert "*" not in only.version, pin
        assert Version(only.version).local is None, pin
    assert "sweep-supervisor" not in pins


def test_the_declared_ranges_admit_the_pins(pyproject: dict[str, Any], pins: dict[str, Requirement]) -> None:
    for text in [*pyproject["project"]["dependencies"], *pyproject["project"]["optional-dependencies"]["dev"]]:
        declared = Requirement(text)
        (pinned,) = pins[canonicalize_name(declared.name)].specifier
        assert declared.specifier.contains(pinned.version), f"{text} does not admit {pinned}"


def test_everything_that_an_installation_pulls_in_is_pinned(pins: dict[str, Requirement]) -> None:
    """Require pins of indirect dependencies, too, except those that a dependency pins itself, as torch does."""
    unpinned, waiting, seen = set(), [Requirement("sweep-supervisor[dev]")], set()
    while waiting:
        requirement = waiting.pop()
        name = str(canonicalize_name(requirement.name))
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        if name not in pins and name != "sweep-supervisor":
            if not any(part.operator == "==" for part in requirement.specifier):
                unpinned.add(name)
            continue
        waiting += _needs(requirement)
    assert unpinned == set()
    assert len(seen) > len(pins) * 0.8, "the walk must have come through most of the environment"


def _needs(requirement: Requirement) -> list[Requirement]:
    """Return the requirements of an installed distribution here, with the `extras` asked for."""
    try:
        texts = distribution(requirement.name).requires or []
    except PackageNotFoundError:
        pytest.fail(f"{requirement.name} is required and not installed: run `make install`")
    extras = sorted(requirement.extras) or [""]
    parsed = [Requirement(text) for text in texts]
    return [p for p in parsed if p.marker is None or any(p.marker.evaluate({"extra": extra}) for extra in extras)]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # The flags of the `make test` that we may run under are not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=NET_S, check=False,
    )  # fmt: skip


def test_make_alone_lists_every_target_with_what_it_does() -> None:
    listed = re.findall(r"^  (\S+) +(\S.*)$", make().stdout, re.MULTILINE)
    assert {name for name, _ in listed} == TARGETS
    phony = re.search(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert set(phony.group(1).split()) == TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS - {"help", "clean"}))
def test_every_target_that_needs_the_environment_makes_it(target: str, tmp_path: Path) -> None:
    plan = make("--dry-run", f"VENV={tmp_path / 'venv'}", target).stdout
    assert "-m pip install" in plan
    assert f"touch {tmp_path / 'venv'}/.installed" in plan


def test_an_environment_that_is_up_to_date_is_not_installed_again(tmp_path: Path) -> None:
    (tmp_path / ".installed").touch()
    assert "pip install" not in make("--dry-run", f"VENV={tmp_path}", "test").stdout


def test_the_benchmarks_are_modules_and_packages_but_not_the_chaos(tmp_path: Path) -> None:
    """The chaos has a target of its own: it takes ten minutes of a machine for itself."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\necho "runs $2"\n')
    python.chmod(0o700)
    (tmp_path / ".installed").touch()
    ran = re.findall(r"^runs (\S+)$", make("bench", f"VENV={tmp_path}").stdout, re.MULTILINE)
    assert {"benchmarks.overhead", "benchmarks.startup", "benchmarks.heat"} <= set(ran)
    assert "benchmarks.chaos" not in ran
    assert "benchmarks.machine" not in ran, "it is a part of others"
    assert "runs benchmarks.startup" in make("bench", f"VENV={tmp_path}", "BENCH=startup").stdout


def test_a_machine_without_a_usable_python_is_told_what_to_install(tmp_path: Path) -> None:
    result = make("install", f"VENV={tmp_path / 'venv'}", "PYTHON=no-such-python")
    assert result.returncode != 0
    assert "no usable Python found among: no-such-python" in result.stderr
    assert "cure: install Python 3.11, 3.12 or 3.13" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_readme_names_the_targets_that_there_are() -> None:
    """Each `make TARGET` in README exists, and each target but help stands there."""
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```.*?^```", readme, re.MULTILINE | re.DOTALL))
    # As code only: prose may well "make sure".
    named = {*re.findall(r"^(?:\$ )?make ([a-z-]+)", blocks, re.MULTILINE), *re.findall(r"`make ([a-z-]+)", readme)}
    assert named <= TARGETS
    assert TARGETS - named <= {"help"}
