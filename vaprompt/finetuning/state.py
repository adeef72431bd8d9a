"""Where a fine-tuning stands, on disk: all that a killed one needs to go on behind the last step that was saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaprompt.errors import RunError
from vaprompt.files import parsed_json
from vaprompt.training.checkpoint import ANEW, BEST, load_weights, put_weights, save_weights

HEADS = "heads"


@dataclass
class TuningState:
    """Where a fine-tuning stands, weights apart."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Steps done of the next."""
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Of the losses of those steps."""
    start: dict[str, Any] | None = None
    """Validation scores before the first step, and by how much predictions differ from those from the store."""
    best_epoch: int = 0
    best_mean: float | None = None
    """Mean validation CCC of the best epoch; None before there is one."""
    seconds: float = 0.0
    """Spent on it so far."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One object an epoch, as in metrics.jsonl."""


@dataclass(frozen=True)
class Learners:
    """Everything that changes while it is trained."""

    heads: nn.Module
    tuned: Mapping[str, nn.Parameter]
    """What learns of the encoders, as `stream.name`."""
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    def weights(self) -> dict[str, Tensor]:
        """Return the present weights, each under `heads.name` or `stream.name`."""
        heads = {f"{HEADS}.{name}": tensor for name, tensor in self.heads.state_dict().items()}
        return heads | {name: parameter.data for name, parameter in self.tuned.items()}

    def put(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Take over weights that came from `path`.

        Raises:
            RunError: they are of other networks.
        """
        own = {name.removeprefix(f"{HEADS}."): t for name, t in tensors.items() if name.startswith(f"{HEADS}.")}
        put_weights(path, self.heads, own)
        missing = [name for name in self.tuned if name not in tensors]
        odd = [name for name, value in self.tuned.items() if name in tensors and tensors[name].shape != value.shape]
        if missing or odd:
            raise RunError(
                path, fault=f"does not fit the encoders ({(missing + odd)[0]})", remedy="start anew in another folder"
            )
        with torch.no_grad():
            for name, parameter in self.tuned.items():
                parameter.copy_(tensors[name])


def save_state(target: Path, state: TuningState, learners: Learners) -> None:
    """Publish weights, optimizer and state in one file, so that they always agree.

    Raises:
        TargetError: it cannot be written.
    """
    tensors = learners.weights()
    for index, slots in learners.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
    facts = {"state": json.dumps(asdict(state)), "scaler": json.dumps(learners.scaler.state_dict())}
    save_weights(target, tensors, **facts)


def load_state(path: Path, learners: Learners) -> TuningState:
    """Put a saved fine-tuning back, and return where it stood.

    Raises:
        RunError: the file is damaged, or of other networks.
    """
    tensors, facts = load_weights(path, remedy=ANEW)
    learners.put(path, {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer.")})
    slots: dict[int, dict[str, Tensor]] = {}
    try:
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = tensor
        groups = learners.optimizer.state_dict()["param_groups"]
        learners.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        scaling = parsed_json(facts["scaler"])
        # Empty where it was saved on a device whose number format needs none, which `auto` allows.
        if scaling:
            learners.scaler.load_state_dict(scaling)
        return TuningState(**parsed_json(facts["state"]))
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        fault = f"does not hold the state of this fine-tuning ({error})"
        raise RunError(path, fault=fault, remedy=ANEW) from None


def save_best(run: Path, epoch: int, learners: Learners) -> None:
    """Publish the weights of an epoch that is the best so far, beside those of the one before.

    Raises:
        TargetError: they cannot be written.
    """
    save_weights(run / BEST.format(epoch), learners.weights())


def put_best(run: Path, epoch: int, learners: Learners) -> None:
    """Take over the weights of the best epoch.

    Raises:
        RunError: they are missing or damaged.
    """
    path = run / BEST.format(epoch)
    learners.put(path, load_weights(path)[0])
