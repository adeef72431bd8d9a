"""Which runs of a leaderboard are shown, and in which order: conditions on fields, scores and names."""

from __future__ import annotations

import difflib
import fnmatch
import operator
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vaprompt.errors import VapromptError

if TYPE_CHECKING:
    from vaprompt.report.entries import Entry
    from vaprompt.report.leaderboard import Line

SCORES = ("mean", "valence", "arousal")
OWN = (*SCORES, "name", "store", "state", "seconds", "epochs", "seed")
"""What a run is known by besides the fields of its recipes, and whatever else runs differ in."""
NOTHING = "nothing"
"""What is shown of a run without a field, and may be asked for."""
RELATIONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}


class ConditionError(VapromptError):
    """A condition or an order names nothing that runs have, or is none."""


@dataclass(frozen=True)
class Condition:
    """One thing that a run has to meet."""

    key: str
    relation: str
    value: Any
    text: str
    """The value as it was written."""

    @classmethod
    def parse(cls, text: str, known: Sequence[str]) -> Condition:
        """Return the condition that a text such as `loss.kl<=0.2` states.

        Raises:
            ConditionError: it is none, or about a field that no run has; the nearest one is named.
        """
        found = re.fullmatch(r"\s*([^<>!=]+?)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*", text)
        if found is None:
            raise ConditionError(
                f"--where {text}", fault="is no condition", remedy="write for example --where 'loss.kl<=0.2'"
            )
        key, relation, value = found.groups()
        require_known(f"--where {text}", key, known)
        return cls(key, relation, _value(value), value)

    def holds(self, entry: Entry) -> bool:
        """Say whether a run meets it; what a run has not, it does not meet."""
        own = value_of(entry, self.key)
        if isinstance(own, (list, tuple)) and isinstance(self.value, str):
            own = " ".join(map(str, own))  # as it is shown
        # A run may be called 7, and 7 is a number: names are compared with what was written.
        asked = self.text if isinstance(own, str) and not isinstance(self.value, str) else self.value
        if self.relation in ("=", "!=") and isinstance(own, str):
            return fnmatch.fnmatchcase(own, asked) == (self.relation == "=")
        if own is None:
            return self.relation == ("=" if self.text == NOTHING else "!=")
        if self.text == NOTHING and self.relation == "!=":
            return True
        try:
            return RELATIONS[self.relation](own, asked)
        except TypeError:
            return False


def known_fields(entries: Sequence[Entry]) -> list[str]:
    """Return all that runs can be chosen and ordered by."""
    return [*OWN, *sorted({key for entry in entries for key in _fields(entry)} - {*OWN})]


def require_known(where: str, key: str, known: Sequence[str]) -> None:
    """Refuse a field that no run has.

    Raises:
        ConditionError: it is none; the nearest one is named.
    """
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        remedy = f"the nearest one is '{near[0]}'" if near else f"they have {', '.join(known)}"
        raise ConditionError(where, fault=f"no run has a field '{key}'", remedy=remedy)


def value_of(entry: Entry, key: str) -> Any:
    """Return one of a run's scores, facts or fields; None where it has none."""
    if key in SCORES:
        return entry.scores.get(key)
    if key in ("name", "state"):
        return getattr(entry, key)
    if key == "store":
        return str(entry.facts["store"]["path"])
    if key in ("seconds", "epochs"):
        return entry.facts.get(key)
    return _fields(entry).get(key)


def rank(lines: Sequence[Line], sort: str, known: Sequence[str]) -> list[Line]:
    """Return lines in an order: scores from the highest, all else from the lowest; what has none comes last.

    Raises:
        ConditionError: no run has a field of this name.
    """
    require_known(f"--sort {sort}", sort, known)

    def place(line: Line) -> tuple[int, int, Any]:
        if sort in SCORES:
            mean = line.spread(sort)["mean"]
            # A score of windows' ends is none of every frame: it does not rank among them.
            order = ("scored", "trained", "unfinished", "pruned").index(line.state)
            return (order, 1, 0.0) if mean is None else (order, 0, -mean)
        means = {"name": line.name, "seconds": line.seconds, "epochs": line.epochs}
        value = means[sort] if sort in means else value_of(line.entries[0], sort)
        if value is None:
            return (1, 0, "")
        return (0, 0, value) if isinstance(value, (int, float)) else (0, 1, str(value))

    return sorted(lines, key=place)


def _fields(entry: Entry) -> dict[str, Any]:
    """Return all that runs can differ in, and the whole of both recipes, by dotted key."""
    recipes = {**entry.facts["recipe"], "finetune": entry.facts.get("finetune") or {}}
    return {**_flat(entry.described), **_flat(recipes)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
