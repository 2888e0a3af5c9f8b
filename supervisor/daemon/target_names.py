"""Finds the experiments and trials that the words of a command line mean: names, patterns, `all`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from supervisor.domain.early_ends import Named
from supervisor.errors import NotFound, UsageError
from supervisor.formatting import nearest
from supervisor.store import lookups
from supervisor.store.database import Store

ALL = "all"
MAX_NAMES = 20
"""Names that an error lists."""
_PATTERN = frozenset("*?[")


@dataclass(frozen=True)
class TargetNames:
    """Knows the names of one run. `current` is the experiment at work: a trial's bare number means one of its trials.

    Each method raises NotFound, with the names that exist, for a word that means nothing, UsageError without words.
    """

    store: Store
    run_id: str
    current: str | None

    def experiments(self, words: Sequence[str]) -> list[Named]:
        """Return the experiments that `words` mean, in the order of the run: NAME, a pattern, or all."""
        known, exact = self._known(), set()
        patterned: set[str] = set()
        for word in _some(words):
            if word in known:
                exact.add(word)
                continue
            found = [name for name in known if word == ALL or fnmatchcase(name, word)]
            if not found:
                raise self._unknown(word, known)
            patterned.update(found)
        return [Named(name, None, name in exact) for name in known if name in exact | patterned]

    def trials(self, words: Sequence[str]) -> list[Named]:
        """Return the trials that `words` mean, by experiment and number.

        A word is NUMBER, EXPERIMENT/NUMBER, either with patterns in it, EXPERIMENT (all its trials), or all.
        """
        found: dict[tuple[str, int], bool] = {}
        for word in _some(words):
            exact = not (_PATTERN & set(word)) and word != ALL and word not in self._known()
            for place in self._trials_of(word):
                found[place] = found.get(place, False) or exact
        return [Named(experiment, number, exact) for (experiment, number), exact in sorted(found.items())]

    def trials_only(self, words: Sequence[str]) -> list[Named]:
        """Return the trials that `words` mean. Raises UsageError for the name or pattern of an experiment."""
        for word in words:
            whole = [name for name in self._known() if word != ALL and fnmatchcase(name, word)]
            if whole:
                raise UsageError(
                    f"expected trials for --epochs, found the experiment {word!r:.60}",
                    remedy=f"write a trial such as {whole[0]}/17; --trials gives an experiment more trials",
                )
        return self.trials(words)

    def experiments_only(self, words: Sequence[str]) -> list[Named]:
        """Return the experiments that `words` mean. Raises UsageError for a trial."""
        known = self._known()
        for word in words:
            if word not in known and (word.isdecimal() or "/" in word):
                raise UsageError(
                    f"expected experiments for --trials, found the trial {word!r:.60}",
                    remedy=f"write an experiment such as {known[0]}; --epochs extends a trial",
                )
        return self.experiments(words)

    def _trials_of(self, word: str) -> list[tuple[str, int]]:
        known = self._known()
        experiment, slash, number = ("*", "/", "*") if word == ALL else word.rpartition("/")
        if slash:
            names = [name for name in known if fnmatchcase(name, experiment)]
        elif fitting := [name for name in known if fnmatchcase(name, word)]:
            names, number = fitting, "*"
        else:
            a_number = word.isdecimal() or bool(_PATTERN & set(word))
            names = [self.current] if a_number and self.current is not None else []
        if not names:
            raise self._unknown(word, known)
        numbers = [(name, int(row["number"])) for name in names for row in self._rows(name)]
        matching = [(name, each) for name, each in numbers if fnmatchcase(str(each), number)]
        if not matching:
            raise NotFound(
                f"no trial {number!r:.60} in {', '.join(names[:MAX_NAMES])}",
                remedy="a trial is a number, EXPERIMENT/NUMBER, or a pattern; `supervisorctl status --json` lists them",
            )
        return matching

    def _known(self) -> list[str]:
        return [str(row["name"]) for row in lookups.experiments(self.store, self.run_id)]

    def _rows(self, name: str) -> list[sqlite3.Row]:
        return lookups.trials(self.store, self.run_id, name)

    def _unknown(self, word: str, known: Sequence[str]) -> NotFound:
        names = ", ".join(known[:MAX_NAMES])
        if word.isdecimal() and self.current is None:
            return NotFound(
                f"no experiment is at work, so trial {word} needs its experiment's name",
                remedy=f"write EXPERIMENT/{word}; the experiments are {names}",
            )
        return NotFound(f"no experiment {word!r:.60} in this run; there are {names}", remedy=nearest(word, list(known)))


def _some(words: Sequence[str]) -> Sequence[str]:
    if not words:
        raise UsageError("expected a name, found none", remedy="write a name, a pattern such as '2M-*', or all")
    return words
