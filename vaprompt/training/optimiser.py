"""AdamW over all parameters of a network as one block of memory, which several threads can update part by part.

Axes: V networks, P parameters of a whole network, padded so that each tensor begins at a cache line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vaprompt.recipes import Recipe

LINE = 16
"""Numbers of a cache line."""
YOUNG = 9
"""Of the average's early steps: step n weighs 9 / (10 + n), until that is less than the decay leaves to it."""
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""AdamW's other settings (torch's)."""


class OptimiserRecipe(Recipe):
    """AdamW's settings (released code)."""

    learning_rate: float = Field(1e-4, gt=0, le=1)
    weight_decay: float = Field(1e-4, ge=0, le=1)
    average: float = Field(0.0, ge=0, lt=1)
    """Decay, a step, of an exponential moving average of the weights, which is what is validated and kept; 0: none."""


class Block:
    """The parameters that learn, of networks of one architecture, moved into one block of memory."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Move them there; the networks go on as before."""
        every = [[one for one in network.parameters() if one.requires_grad] for network in networks]
        first = every[0]
        self.ends = list(accumulate(-(-parameter.numel() // LINE) * LINE for parameter in first))
        """Where each parameter's place ends."""
        self.starts = [0, *self.ends[:-1]]
        self._shapes = [parameter.shape for parameter in first]
        self.value_VP, self.gradient_VP = (first[0].new_zeros(len(every), self.ends[-1]) for _ in range(2))
        with torch.no_grad():
            for network, parameters in enumerate(every):
                for parameter, place in zip(parameters, self._of(self.value_VP[network]), strict=True):
                    place.copy_(parameter)
                    parameter.data = place

    def gradients(self, network: int) -> list[Tensor]:
        """Return the places of one network's gradients, a parameter each."""
        return self._of(self.gradient_VP[network])

    def leaves(self) -> list[Tensor]:
        """Return each parameter of all networks as one tensor to differentiate by."""
        return [values.detach().requires_grad_() for values in self._of(self.value_VP)]

    def take(self, gradients: Sequence[Tensor | None]) -> None:
        """Take over the gradients of the leaves; None is zero."""
        for place, gradient in zip(self._of(self.gradient_VP), gradients, strict=True):
            if gradient is None:
                place.zero_()
            else:
                place.copy_(gradient)

    def clear(self) -> None:
        """Set all gradients to zero."""
        self.gradient_VP.zero_()

    def _of(self, block: Tensor) -> list[Tensor]:
        return [
            block[..., start : start + shape.numel()].view((*block.shape[:-1], *shape))
            for start, shape in zip(self.starts, self._shapes, strict=True)
        ]


class Optimiser:
    """Moves a network's parameters into one block, and updates them there."""

    def __init__(self, network: nn.Module, recipe: OptimiserRecipe, *, parts: int = 1) -> None:
        """Take over the parameters that learn; `parts` of them can be updated at the same time."""
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._block = Block([network])
        self._value_P, self._gradient_P = self._block.value_VP[0], self._block.gradient_VP[0]
        self.gradients = self._block.gradients(0)
        """Of each parameter, to be filled in before an update: views into one block."""
        starts, ends = self._block.starts, self._block.ends
        self._average_P = self._value_P.clone() if recipe.average else None
        self._least = 1 - recipe.average
        # Borders between parameters, as near to equal parts as they come.
        borders = [min(ends, key=lambda end: abs(end - part * ends[-1] / parts)) for part in range(1, parts + 1)]
        self._borders = [0, *borders]
        self._of_part = [
            [index for index, start in enumerate(starts) if low <= start < high]
            for low, high in zip(self._borders, self._borders[1:], strict=False)
        ]
        self._parts = [
            _Part(self._value_P[low:high], self._gradient_P[low:high], recipe)
            for low, high in zip(self._borders, self._borders[1:], strict=False)
        ]

    def of_part(self, part: int) -> list[int]:
        """Return which of the parameters are of a part."""
        return self._of_part[part]

    def clear(self) -> None:
        """Set all gradients to zero."""
        self._block.clear()

    def update(self, part: int = 0) -> None:
        """Take a step along the gradients of a part, and take its outcome into the average."""
        self._parts[part].update()
        if self._average_P is not None:
            place = slice(self._borders[part], self._borders[part + 1])
            # The first steps weigh more, so that the average soon forgets the start.
            share = (YOUNG / (YOUNG + 1 + self._parts[part].step)).clamp(min=self._least)
            with torch.no_grad():
                self._average_P[place].lerp_(self._value_P[place], share)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the network have its average weights while the block runs, if there is an average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        if self._average_P is not None:
            with torch.no_grad():
                value_P = self._value_P.clone()
                self._value_P.copy_(self._average_P)
                self._average_P.copy_(value_P)

    def tensors(self) -> list[Tensor]:
        """Return all that an update changes."""
        moments = [tensor for part in self._parts for tensor in (part.step, part.mean_P, part.square_P)]
        return [self._value_P, *moments, *([] if self._average_P is None else [self._average_P])]

    def state(self) -> dict[str, Float[Tensor, "..."]]:
        """Return what the next steps depend on, the parameters apart."""
        mean_P, square_P = (torch.cat([getattr(part, name) for part in self._parts]) for name in ("mean_P", "square_P"))
        moments = {"exp_avg": mean_P, "exp_avg_sq": square_P}
        average = {} if self._average_P is None else {"average": self._average_P.clone()}
        return {"step": self._parts[0].step.clone(), **moments, **average}

    def load_state(self, state: dict[str, Float[Tensor, "..."]]) -> None:
        """Go on where another stood; its tensors must be those of a network alike."""
        with torch.no_grad():
            for part, low, high in zip(self._parts, self._borders, self._borders[1:], strict=False):
                part.step.copy_(state["step"])
                part.mean_P.copy_(state["exp_avg"][low:high])
                part.square_P.copy_(state["exp_avg_sq"][low:high])
            if self._average_P is not None:
                self._average_P.copy_(state["average"])


class _Part:
    """Torch's fused AdamW of a piece of the block.

    The operation alone: its class brings a compiler along, whose import takes longer than reading the features.
    """

    def __init__(self, value_P: Tensor, gradient_P: Tensor, recipe: OptimiserRecipe) -> None:
        self._value_P, self._gradient_P, self._recipe = value_P, gradient_P, recipe
        self.step = torch.zeros((), dtype=torch.float32, device=value_P.device)
        self.mean_P, self.square_P = torch.zeros_like(value_P), torch.zeros_like(value_P)

    @torch.no_grad()
    def update(self) -> None:
        """Take a step along the gradients."""
        self.step += 1
        torch._fused_adamw_(
            [self._value_P],
            [self._gradient_P],
            [self.mean_P],
            [self.square_P],
            [],
            [self.step],
            lr=self._recipe.learning_rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self._recipe.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )


class SideBySide:
    """AdamW of several networks, each with its own settings; else as `Optimiser`."""

    def __init__(self, block: Block, recipes: Sequence[OptimiserRecipe]) -> None:
        """Update the networks of a block, each by its recipe."""
        self._block = block
        self._rate_V1, self._decay_V1 = (
            block.value_VP.new_tensor(numbers).unsqueeze(1)
            for numbers in zip(*((recipe.learning_rate, recipe.weight_decay) for recipe in recipes), strict=True)
        )
        self._step_V1 = torch.zeros_like(self._rate_V1)
        self._mean_VP, self._square_VP = (torch.zeros_like(block.value_VP) for _ in range(2))

    def update(self) -> None:
        """Take a step along the gradients (Loshchilov and Hutter 2019, algorithm 2)."""
        value_VP, gradient_VP, (first, second) = self._block.value_VP, self._block.gradient_VP, BETAS
        with torch.no_grad():
            self._step_V1 += 1
            value_VP *= 1 - self._rate_V1 * self._decay_V1
            self._mean_VP.lerp_(gradient_VP, 1 - first)
            self._square_VP.mul_(second).addcmul_(gradient_VP, gradient_VP, value=1 - second)
            spread_VP = (self._square_VP / (1 - second**self._step_V1)).sqrt_().add_(EPSILON)
            value_VP.addcdiv_(self._mean_VP * (-self._rate_V1 / (1 - first**self._step_V1)), spread_VP)

    def tensors(self) -> list[Tensor]:
        """Return all that an update changes."""
        return [self._block.value_VP, self._step_V1, self._mean_VP, self._square_VP]

    def state(self, network: int) -> dict[str, Float[Tensor, "..."]]:
        """Return what one network's next steps depend on, in the form of `Optimiser`."""
        step, mean_P, square_P = self._step_V1[network, 0], self._mean_VP[network], self._square_VP[network]
        return {"step": step.clone(), "exp_avg": mean_P.clone(), "exp_avg_sq": square_P.clone()}

    def load_state(self, network: int, state: dict[str, Float[Tensor, "..."]]) -> None:
        """Let one network go on where it, or another alike, stood."""
        with torch.no_grad():
            self._step_V1[network] = state["step"].item()
            self._mean_VP[network].copy_(state["exp_avg"])
            self._square_VP[network].copy_(state["exp_avg_sq"])
