"""Every way in which a user's input can be wrong, as exceptions that print as one line.

The line names the file (and line), what is wrong, and what to do about it. The command line prints it and
exits with `exit_code`; whatever is not a `VapromptError` is a bug of ours (exit code 1).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any


class VapromptError(Exception):
    """Base of all errors that are about the user's input, never about our code."""

    exit_code = 2

    def __init__(self, where: Path | str | None, *, fault: str, remedy: str, line: int | None = None) -> None:
        """Compose the one line that is shown.

        Args:
            where: the file, folder, URL or recipe key that the fault is in; None where there is none.
            fault: what is wrong with it, with the offending value and the allowed ones.
            remedy: what the user can do.
            line: 1-based line in a text file.
        """
        self.where, self.fault, self.remedy, self.line = where, fault, remedy, line
        place = "" if where is None else f"{where}:{line}: " if line is not None else f"{where}: "
        super().__init__(" ".join(f"{place}{fault}; {remedy}".split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be sent from one process to another."""
        return partial(type(self), fault=self.fault, remedy=self.remedy, line=self.line), (self.where,)

    def facts(self) -> dict[str, Any]:
        """Return it as plain values, from which `remade` makes it again in another process."""
        where = None if self.where is None else str(self.where)
        return {
            "error": type(self).__name__, "where": where,
            "fault": self.fault, "remedy": self.remedy, "line": self.line,
        }  # fmt: skip


def remade(facts: dict[str, Any]) -> VapromptError:
    """Return the error of which another process told the `facts`."""
    kind = globals().get(facts["error"], VapromptError)
    kind = kind if isinstance(kind, type) and issubclass(kind, VapromptError) else VapromptError
    return kind(facts["where"], fault=facts["fault"], remedy=facts["remedy"], line=facts["line"])


class RecipeError(VapromptError):
    """A recipe or description cannot be read, has an unknown key, or a value out of its range."""


class UnfitError(RecipeError):
    """Each field of a recipe may be as it is, but not all of them together."""


class OptionError(VapromptError):
    """The value of an option, or of a variable of the environment, is not of the form that it has to have."""


class AnnotationError(VapromptError):
    """An annotation file breaks the format that its data set promises."""


class DatasetError(VapromptError):
    """A data set's folder is not what its layout says."""


class MediaError(VapromptError):
    """A video, sound or picture cannot be decoded, or breaks a limit."""


class StoreError(VapromptError):
    """A feature store is missing, damaged, or lacks what is asked of it."""


class NoStoreError(StoreError):
    """There is nothing at all where a feature store is looked for."""


class MissingStreamError(StoreError):
    """A feature store has nothing under the name that is asked for."""


class TooLargeError(StoreError):
    """A file of a store has more bytes than are read of its kind."""


class UnreachableError(StoreError):
    """A server with a feature store does not answer, or not as it should; later it may."""


class TakenOverError(StoreError):
    """A writer of a store was taken for dead by another, which does its work."""


class FingerprintError(StoreError):
    """Two things were made differently and must not be mixed; the fault lists the fields that differ."""


class WeightsError(VapromptError):
    """An encoder's weights are missing or do not belong to its architecture."""


class DetectorError(VapromptError):
    """Faces cannot be looked for: the optional part for it is not installed, or does not load."""


class RunError(VapromptError):
    """A training run is missing, incomplete, or cannot be used as asked."""


class DivergedError(RunError):
    """A training came to what is no number any more, and would again."""


class ClusterError(VapromptError):
    """A cluster of machines cannot be used as asked."""


class HangError(MediaError):
    """Nothing was decoded for too long; the thread that it hangs in is left behind."""


class TargetError(VapromptError):
    """What a command is to write cannot be written there."""


class HeldError(TargetError):
    """Another process is writing there; later it may be free."""
