"""Weights on disk: the best ones of a run, and all that a killed training needs to go on. Safetensors only."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vaprompt.errors import RunError
from vaprompt.files import parsed_json, published
from vaprompt.tensors import unreadable, write_tensors

BEST = "best-{}.safetensors"
"""The best epoch's weights while a training goes on, under its number: what a state names is there when it is read."""
ANEW = "delete it: the same command then begins anew"
"""What helps against a state that is damaged."""


@dataclass
class TrainingState:
    """Where a training stands after an epoch, weights apart."""

    epoch: int = 0
    """Epochs done."""
    best_epoch: int = 0
    best_mean: float | None = None
    """Mean validation CCC of the best epoch; None before there is one."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One object an epoch, as in metrics.jsonl."""
    seconds: float = 0.0
    """That those epochs took, wherever they were trained."""


def save_weights(target: Path, tensors: Mapping[str, Tensor], **facts: str) -> None:
    """Publish tensors and a few facts as one safetensors file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with published(target) as aside:
        write_tensors(aside, contiguous, facts)


def clear_best(run: Path, keep: Container[int] = ()) -> None:
    """Delete the weights of all epochs that were the best, but those to keep."""
    first, last = BEST.split("{}")
    for path in run.glob(BEST.format("*")):
        number = path.name.removeprefix(first).removesuffix(last)
        if number.isdecimal() and int(number) not in keep:
            path.unlink(missing_ok=True)


def load_weights(
    path: Path, *, remedy: str = "train the run again or restore the file"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a safetensors file's tensors and facts; `remedy` helps against a damaged one.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        if not path.exists():
            remedy = "train it (again) with 'vaprompt train'"
            raise RunError(path, fault="is missing, so the run has no weights", remedy=remedy) from None
        if fault := unreadable(path):
            raise RunError(path, fault=fault, remedy="check its rights") from None
        raise RunError(path, fault=f"is not a whole safetensors file ({error})", remedy=remedy) from None


def save_state(
    target: Path, state: TrainingState, weights: Mapping[str, Tensor], optimiser: Mapping[str, Tensor]
) -> None:
    """Publish a network's weights, its optimiser's state and the training's in one file, so that they always agree."""
    tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
    tensors |= {f"optimiser.{name}": tensor for name, tensor in optimiser.items()}
    save_weights(target, tensors, state=json.dumps(asdict(state)))


@runtime_checkable
class GoesOn(Protocol):
    """An optimiser that goes on where another stood."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over its state."""
        ...


def load_state(path: Path, estimator: nn.Module, optimiser: GoesOn) -> TrainingState:
    """Put a saved training back into `estimator` and `optimiser`, and return where it stood.

    Raises:
        RunError: the file is missing, damaged, or of another network.
    """
    tensors, facts = load_weights(path, remedy=ANEW)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    put_weights(path, estimator, parts["model"])
    try:
        optimiser.load_state(parts["optimiser"])
        return TrainingState(**parsed_json(facts["state"]))
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise RunError(path, fault=f"does not hold the state of this training ({error})", remedy=ANEW) from None


def require_best(state: Path, epoch: int) -> None:
    """Refuse to go on from a state on disk whose best epoch's weights are not there to end with.

    Raises:
        RunError: they are missing or damaged.
    """
    path = state.parent / BEST.format(epoch)
    try:
        with safe_open(path, framework="pt"):
            return
    except (SafetensorError, OSError) as error:
        fault = unreadable(path) or f"is not a whole safetensors file ({error})"
        fault = fault if path.exists() else "is missing"
    remedy = f"delete {state.name} beside it: the same command then begins anew"
    raise RunError(path, fault=f"{fault}, and {state.name} names it", remedy=remedy)


def put_weights(path: Path, estimator: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load tensors that came from `path` into the network.

    Raises:
        RunError: names or shapes do not fit.
    """
    try:
        estimator.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            path, fault=f"does not fit the network that recipe.toml describes ({reason})", remedy="train the run again"
        ) from None
