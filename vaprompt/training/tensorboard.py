"""A run's epochs for TensorBoard, besides metrics.jsonl: `tensorboard --logdir RUN`, or the folder of many runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vaprompt.errors import RunError, TargetError
from vaprompt.files import parsed_json, text_of, unwritable
from vaprompt.training.runs import METRICS

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
"""In a run's."""
INSTALL = "pip install 'vaprompt[tensorboard]'"


class TensorBoardLog:
    """Writes what it is told of runs' epochs; see `vaprompt.training.ongoing.Watch`. Use as a context manager.

    A run that is gone on with is written anew from its first epoch, so that none is missing and none is there twice.
    """

    def __init__(self) -> None:
        """Prepare to write.

        Raises:
            TargetError: the optional package is not installed.
        """
        if find_spec("tensorboard") is None:
            fault = "needs the package tensorboard"
            raise TargetError("--log tensorboard", fault=fault, remedy=f"install it with: {INSTALL}")
        self._writers: dict[Path, tuple[SummaryWriter, int]] = {}

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer, _ in self._writers.values():
            writer.close()
        self._writers.clear()

    def __call__(self, run: Path, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the epochs of a run that are not written yet.

        Raises:
            TargetError: the folder cannot be written.
        """
        writer, written = self._writers.get(run) or (self._begun(run), 0)
        for line in history[written:]:
            for part, scores in line.items():
                for name, value in scores.items() if isinstance(scores, Mapping) else ():
                    if value is not None and name != "frames":
                        writer.add_scalar(f"{part}/{name}", value, line["epoch"])
        writer.flush()
        self._writers[run] = writer, len(history)

    def whole(self, run: Path) -> None:
        """Write a run that was trained before, if it was not written now.

        Raises:
            RunError: its metrics are missing or damaged.
            TargetError: the folder cannot be written.
        """
        if run in self._writers:
            return
        try:
            history = [parsed_json(line) for line in text_of(run / METRICS).splitlines()]
        except (OSError, ValueError) as error:
            raise RunError(run / METRICS, fault=f"cannot be read ({error})", remedy="train the run again") from None
        self(run, history)

    def _begun(self, run: Path) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        try:
            for left in (run / FOLDER).glob("events.out.tfevents.*"):
                left.unlink()
            return SummaryWriter(str(run / FOLDER))
        except OSError as error:
            raise unwritable(run / FOLDER, error) from None


@contextmanager
def logged(kind: str | None) -> Iterator[TensorBoardLog | None]:
    """Yield what `--log` asks for; None where it asks for nothing.

    Raises:
        TargetError: the optional package is not installed.
    """
    if kind is None:
        yield None
        return
    with TensorBoardLog() as log:
        yield log
