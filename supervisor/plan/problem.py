"""Defines an error of a plan, with a remedy: the valid word that is most like a wrong one. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.plan.yaml_reader import KeyPath


@dataclass(frozen=True)
class Problem:
    """One error of a plan: the path of the key, what is wrong with it, and the remedy."""

    path: KeyPath
    what: str
    remedy: str | None = None


def nearest(word: object, options: Iterable[object], described: str = "valid ones") -> str:
    """Return a remedy: the option most like `word`, or the list of `options`."""
    names = [str(option) for option in options]
    # With two characters, one in common is enough: 3M is near 2M.
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6 if len(str(word)) > 2 else 0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"{described}: {', '.join(names[:40])}" if names else f"there are no {described}"
