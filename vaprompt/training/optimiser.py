"""AdamW over all parameters of a network as one block of memory, which several threads can update part by part.

Axes: P parameters of the whole network, padded so that each tensor begins at a cache line.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vaprompt.recipes import Recipe

LINE = 16
"""Numbers of a cache line."""


class OptimiserRecipe(Recipe):
    """AdamW's settings (released code)."""

    learning_rate: float = Field(1e-4, gt=0, le=1)
    weight_decay: float = Field(1e-4, ge=0, le=1)


class Optimiser:
    """Moves a network's parameters into one block, and updates them there."""

    def __init__(self, network: nn.Module, recipe: OptimiserRecipe, *, parts: int = 1) -> None:
        """Take over the parameters that learn; `parts` of them can be updated at the same time."""
        named = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        self.parameters = list(named.values())
        ends = list(accumulate(-(-parameter.numel() // LINE) * LINE for parameter in self.parameters))
        starts = [0, *ends[:-1]]
        first = self.parameters[0]
        self._value_P, self._gradient_P = (first.new_zeros(ends[-1]) for _ in range(2))
        self.gradients: list[Tensor] = []
        """Of each parameter, to be filled in before an update: views into one block."""
        with torch.no_grad():
            for parameter, start in zip(self.parameters, starts, strict=True):
                place = slice(start, start + parameter.numel())
                self._value_P[place] = parameter.flatten()
                parameter.data = self._value_P[place].view_as(parameter)
                self.gradients.append(self._gradient_P[place].view_as(parameter))
        # Borders between parameters, as near to equal parts as they come.
        borders = [min(ends, key=lambda end: abs(end - part * ends[-1] / parts)) for part in range(1, parts + 1)]
        self._borders = [0, *borders]
        self._of_part = [
            [index for index, start in enumerate(starts) if low <= start < high]
            for low, high in zip(self._borders, self._borders[1:], strict=False)
        ]
        self._adam = [
            self._adam_of(slice(low, high), recipe) for low, high in zip(self._borders, self._borders[1:], strict=False)
        ]

    def _adam_of(self, place: slice, recipe: OptimiserRecipe) -> torch.optim.AdamW:
        values = nn.Parameter(self._value_P[place])
        values.grad = self._gradient_P[place]
        adam = torch.optim.AdamW(
            [values],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=values.device.type == "cuda",
        )
        # Its state is made at once, so that there is no first step unlike the others.
        adam.state[values] = {
            "step": torch.zeros((), dtype=torch.float32, device=values.device),
            "exp_avg": torch.zeros_like(values),
            "exp_avg_sq": torch.zeros_like(values),
        }
        return adam

    def of_part(self, part: int) -> list[int]:
        """Return which of the parameters are of a part."""
        return self._of_part[part]

    def clear(self) -> None:
        """Set all gradients to zero."""
        self._gradient_P.zero_()

    def update(self, part: int = 0) -> None:
        """Take a step along the gradients of a part."""
        self._adam[part].step()

    def state(self) -> dict[str, Float[Tensor, "..."]]:
        """Return what the next steps depend on, the parameters apart."""
        states = [state for adam in self._adam for state in adam.state.values()]
        moments = {name: torch.cat([state[name] for state in states]) for name in ("exp_avg", "exp_avg_sq")}
        return {"step": states[0]["step"].clone(), **moments}

    def load_state(self, state: dict[str, Float[Tensor, "..."]]) -> None:
        """Go on where another stood; its tensors must be those of a network alike."""
        with torch.no_grad():
            for adam, low, high in zip(self._adam, self._borders, self._borders[1:], strict=False):
                (mine,) = adam.state.values()
                mine["step"].copy_(state["step"])
                for name in ("exp_avg", "exp_avg_sq"):
                    mine[name].copy_(state[name][low:high])
