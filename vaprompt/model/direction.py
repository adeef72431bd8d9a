"""One direction of a gated recurrent unit, forward and backward, with little left over but arithmetic.

    r, z = sigmoid(W_rz x + b_rz + U_rz h + c_rz)
    n = tanh(W_n x + b_n + r (U_n h + c_n))
    h' = n + z (h - n)

Products are in the precision of the sequence that goes in, all else in that of the weights: where the sequence is in
half of the bits, what a product adds to is not, and neither is a state that goes from step to step.

Axes: V networks (or none), T steps, B windows, R rows (each step of each window), D channels of the input, H units;
G = 3 H: r, z and n below each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaprompt.model.loops import advance, descend, plus

Item = TypeVar("Item")

CHUNK = 8
"""Steps that are read together, and whose derivatives are prepared together: as many as stay in a core's cache."""


class Weights(NamedTuple):
    """One direction's, as torch.nn.GRU keeps them; those of several networks below each other."""

    input_GD: Float[Tensor, "*V G D"]
    state_GH: Float[Tensor, "*V G H"]
    input_G: Float[Tensor, "*V G"]
    state_G: Float[Tensor, "*V G"]


class Kept(NamedTuple):
    """What a direction gives, and keeps for its derivative."""

    framed_TBH: Tensor
    """The states, with a row of zeros before and after them: where the two directions begin."""
    gates_TBG: Tensor
    """r, z and U_n h + c_n."""
    new_TBH: Tensor
    """n."""
    rounded_TBH: Tensor | None
    """The framed states as products take them; None where that is no other precision."""

    @property
    def framed(self) -> list[Tensor]:
        """The framed states, in each precision that there is."""
        return [self.framed_TBH, *([] if self.rounded_TBH is None else [self.rounded_TBH])]

    @property
    def factor_TBH(self) -> Tensor:
        """The framed states as products take them."""
        return self.framed[-1]

    @property
    def states_TBH(self) -> Float[Tensor, "*V T B H"]:
        """The states, in the precision of the sequence."""
        return _inside(self.factor_TBH)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that there are, from which `of` makes it again."""
        return tuple(part for part in self if part is not None)

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Kept:
        """Return what gave these tensors."""
        framed_TBH, gates_TBG, new_TBH, *rounded = tensors
        return cls(framed_TBH, gates_TBG, new_TBH, rounded[0] if rounded else None)

    def part(self, start: int, steps: int) -> Kept:
        """Return what is kept of some steps, with a state more before and after them."""
        gates_TBG, new_TBH = (part.narrow(-3, start, steps) for part in (self.gates_TBG, self.new_TBH))
        framed_TBH, *rounded = (part.narrow(-3, start, steps + 2) for part in self.framed)
        return Kept.of((framed_TBH, gates_TBG, new_TBH, *rounded))


class _Cell:
    """What leads from one step's states to the next one's."""

    def __init__(self, weights: Weights, precision: torch.dtype, backwards: bool) -> None:
        self._weights, self._units, self._backwards = weights, weights.state_GH.shape[-1], backwards
        self._input_DG = weights.input_GD.to(precision).mT
        self._state_HG = weights.state_GH.to(precision).mT.contiguous()
        bias_G = weights.input_G.clone()
        bias_G[..., : 2 * self._units] += weights.state_G[..., : 2 * self._units]
        self._bias_1G = bias_G.to(precision).unsqueeze(-2)
        self._minus_one = weights.state_G.new_full((), -1.0)

    def run(self, sequence_TBD: Tensor, kept: Kept, read_TBH: Tensor) -> None:
        """Write what is kept of some steps, the first or last of whose framed states is that before them.

        Args:
            sequence_TBD: what goes in.
            kept: where to.
            read_TBH: room for 2 (W_n x + b_n).
        """
        opened, weights = 2 * self._units, self._weights
        rows_RD, gates_RG, read_RH = (part.flatten(-3, -2) for part in (sequence_TBD, kept.gates_TBG, read_TBH))
        gates_RG[..., opened:] = weights.state_G[..., opened:].unsqueeze(-2)
        if rows_RD.dtype == gates_RG.dtype:
            plus(self._bias_1G[..., :opened], rows_RD, self._input_DG[..., :opened], out=gates_RG[..., :opened])
            plus(self._bias_1G[..., opened:], rows_RD, self._input_DG[..., opened:], out=read_RH)
        else:
            both_RG = torch.empty_like(gates_RG, dtype=rows_RD.dtype)
            plus(self._bias_1G, rows_RD, self._input_DG, out=both_RG)
            gates_RG[..., :opened], read_RH[...] = both_RG[..., :opened], both_RG[..., opened:]
        # tanh(a) = 2 sigmoid(2 a) - 1, and a sigmoid takes a third of a tanh's time.
        read_RH.mul_(2)
        advance(*kept, read_TBH, self._state_HG, self._minus_one, self._backwards)


class Direction:
    """One direction."""

    def __init__(self, backwards: bool) -> None:
        self._backwards = backwards

    def forward(self, sequence_TBD: Tensor, weights: Weights) -> Kept:
        """Return the states."""
        *networks, steps, windows, _ = sequence_TBD.shape
        cell = _Cell(weights, sequence_TBD.dtype, self._backwards)
        kept = self._room((*networks, steps, windows), sequence_TBD.dtype, weights)
        # Read a few steps at once, the processor finds them in its cache; an accelerator would rather be asked once.
        at_once = min(CHUNK, steps) if sequence_TBD.device.type == "cpu" else steps
        read_TBH = kept.new_TBH.new_empty(*networks, at_once, *kept.new_TBH.shape[-2:])
        for start in self._in_order(range(0, steps, at_once)):
            count = min(at_once, steps - start)
            part = kept.part(start, count)
            cell.run(sequence_TBD.narrow(-3, start, count), part, read_TBH.narrow(-3, 0, count))
        return kept

    def states(self, sequence_TBD: Tensor, weights: Weights, out_TBH: Tensor) -> None:
        """Write one network's states, and keep nothing for a derivative."""
        steps, windows, _ = sequence_TBD.shape
        cell = _Cell(weights, sequence_TBD.dtype, self._backwards)
        kept = self._room((min(CHUNK, steps), windows), sequence_TBD.dtype, weights)
        read_TBH = torch.empty_like(kept.new_TBH)
        before, last = (-1, 1) if self._backwards else (0, -2)
        carried = [framed_TBH[0] for framed_TBH in kept.framed]
        for start in self._in_order(range(0, steps, CHUNK)):
            count = min(CHUNK, steps - start)
            part = kept.part(0, count)
            for framed_TBH, state_BH in zip(part.framed, carried, strict=True):
                framed_TBH[before] = state_BH
            cell.run(sequence_TBD[start : start + count], part, read_TBH[:count])
            out_TBH[start : start + count] = part.states_TBH
            carried = [framed_TBH[last].clone() for framed_TBH in part.framed]

    def _room(self, shape: Sequence[int], precision: torch.dtype, weights: Weights) -> Kept:
        """Return room for what is kept of some steps of some windows; no state is known before them."""
        units = weights.state_GH.shape[-1]
        new_TBH, gates_TBG = (weights.state_GH.new_empty(*shape, size) for size in (units, 3 * units))
        framed_TBH = _framed(new_TBH, new_TBH.dtype)
        return Kept(framed_TBH, gates_TBG, new_TBH, None if precision == new_TBH.dtype else _framed(new_TBH, precision))

    def _in_order(self, items: Sequence[Item]) -> Iterable[Item]:
        """Return items in the order in which this direction comes to them."""
        return reversed(items) if self._backwards else items

    def backward(self, sequence_TBD: Tensor, weights: Weights, kept: Kept, d_states_TBH: Tensor) -> tuple[Tensor, ...]:
        """Return the derivatives of the input and of the four weights."""
        units, precision, dtype = weights.state_GH.shape[-1], sequence_TBD.dtype, weights.state_GH.dtype
        d_gates_TBG, d_new_TBH = (torch.empty_like(part, dtype=precision) for part in (kept.gates_TBG, kept.new_TBH))
        self._through_time(weights.state_GH.to(precision), kept, d_states_TBH.to(dtype), d_gates_TBG, d_new_TBH)
        rows_RG, rows_RD = d_gates_TBG.flatten(-3, -2), sequence_TBD.flatten(-3, -2)
        d_state_GH = rows_RG.mT @ self._before(kept.factor_TBH).flatten(-3, -2)
        d_state_G = rows_RG.sum(dim=-2).to(dtype)
        # r and z take input and state alike; of n, r lets the state in, but not the input.
        d_gates_TBG[..., 2 * units :] = d_new_TBH
        d_input_G = torch.cat((d_state_G[..., : 2 * units], d_new_TBH.sum(dim=(-3, -2)).to(dtype)), dim=-1)
        d_sequence_TBD = (rows_RG @ weights.input_GD.to(precision)).view_as(sequence_TBD)
        return d_sequence_TBD, (rows_RG.mT @ rows_RD).to(dtype), d_state_GH.to(dtype), d_input_G, d_state_G

    def _through_time(
        self, state_GH: Tensor, kept: Kept, given_TBH: Tensor, d_gates_TBG: Tensor, d_new_TBH: Tensor
    ) -> None:
        """Fill in the derivatives of what goes into each gate: of r, z and the state's part of n, and of all of n."""
        steps = given_TBH.shape[-3]
        d_state_TBH, d_gates_TB3H = torch.empty_like(kept.new_TBH), d_gates_TBG.view(*given_TBH.shape[:-1], 3, -1)
        # From the last step that it came to, to the first.
        starts = range(0, steps, CHUNK)
        for start in starts if self._backwards else reversed(starts):
            count = min(CHUNK, steps - start)
            new_slope_TBH, slopes_TB3H = _slopes(kept.part(start, count))
            descend(given_TBH, kept.gates_TBG, slopes_TB3H, state_GH, d_state_TBH, d_gates_TB3H, start, self._backwards)
            torch.mul(d_state_TBH.narrow(-3, start, count), new_slope_TBH, out=d_new_TBH.narrow(-3, start, count))

    def _before(self, framed_TBH: Tensor) -> Tensor:
        """Return the state before each step."""
        return framed_TBH.narrow(-3, 2 if self._backwards else 0, framed_TBH.shape[-3] - 2)


def _slopes(kept: Kept) -> tuple[Tensor, Tensor]:
    """Return by what the derivative of a state is multiplied: for n, and for r, z and the state's part of n."""
    gates_TBG, new_TBH, after_TBH = kept.gates_TBG, kept.new_TBH, _inside(kept.framed_TBH)
    units = new_TBH.shape[-1]
    reset_TBH, keep_TBH, heard_TBH = gates_TBG.chunk(3, dim=-1)
    slopes_TB3H = new_TBH.new_empty(*new_TBH.shape[:-1], 3, units)
    for_reset, for_keep, for_heard = slopes_TB3H.unbind(-2)
    drop_TBH = 1 - keep_TBH
    # h' - n = z (h - n).
    torch.sub(after_TBH, new_TBH, out=for_keep).mul_(drop_TBH)
    new_slope_TBH = torch.addcmul(drop_TBH.new_ones(()), new_TBH, new_TBH, value=-1).mul_(drop_TBH)
    torch.mul(new_slope_TBH, reset_TBH, out=for_heard)
    torch.addcmul(for_heard, for_heard, reset_TBH, value=-1, out=for_reset).mul_(heard_TBH)
    return new_slope_TBH, slopes_TB3H


def _framed(like_TBH: Tensor, dtype: torch.dtype) -> Tensor:
    """Return room for states, with a row of zeros before and after them."""
    *networks, steps, windows, units = like_TBH.shape
    framed_TBH = like_TBH.new_empty(*networks, steps + 2, windows, units, dtype=dtype)
    framed_TBH.select(-3, 0).zero_()
    framed_TBH.select(-3, -1).zero_()
    return framed_TBH


def _inside(framed_TBH: Tensor) -> Tensor:
    return framed_TBH.narrow(-3, 1, framed_TBH.shape[-3] - 2)
