"""One direction of a gated recurrent unit, forward and backward, with little left over but arithmetic.

    r, z = sigmoid(W_rz x + b_rz + U_rz h + c_rz)
    n = tanh(W_n x + b_n + r (U_n h + c_n))
    h' = n + z (h - n)

Axes: V networks (or none), T steps, B windows, R rows (each step of each window), D channels of the input, H units;
G = 3 H: r, z and n below each other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 8
"""Steps whose derivatives are prepared together: as many as stay in a core's cache."""


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

    @property
    def states_TBH(self) -> Float[Tensor, "*V T B H"]:
        """The states."""
        return self.framed_TBH.narrow(-3, 1, self.framed_TBH.shape[-3] - 2)


class _Room(NamedTuple):
    """What the steps of a direction write to."""

    gates_TBG: Tensor
    """r, z and U_n h + c_n; before a step, what does not depend on the state before it."""
    read_TBH: Tensor
    """2 (W_n x + b_n)."""
    new_TBH: Tensor
    """n."""

    @classmethod
    def like(cls, sequence_TBD: Tensor, units: int) -> _Room:
        """Return room for a sequence."""
        shape = sequence_TBD.shape[:-1]
        return cls(*(sequence_TBD.new_empty(*shape, size) for size in (3 * units, units, units)))

    def first(self, steps: int) -> _Room:
        """Return the room of the first steps."""
        return _Room(*(part.narrow(-3, 0, steps) for part in self))

    def by_step(self) -> list[_Step]:
        """Return each step's room."""
        reset_TBH, keep_TBH, heard_TBH = self.gates_TBG.chunk(3, dim=-1)
        parts = (self.gates_TBG, self.gates_TBG[..., : 2 * reset_TBH.shape[-1]], reset_TBH, keep_TBH, heard_TBH)
        every = (part.unbind(-3) for part in (*parts, self.read_TBH, self.new_TBH))
        return [_Step(*step) for step in zip(*every, strict=True)]


class _Step(NamedTuple):
    gates: Tensor
    opened: Tensor
    reset: Tensor
    keep: Tensor
    heard: Tensor
    read: Tensor
    new: Tensor


class _Cell:
    """What leads from one step's states to the next one's."""

    def __init__(self, weights: Weights) -> None:
        self._weights, self._units = weights, weights.state_GH.shape[-1]
        self._state_HG = weights.state_GH.mT.contiguous()
        self._minus_one = weights.state_G.new_full((), -1.0)

    def read(self, sequence_TBD: Tensor, room: _Room) -> None:
        """Write what the gates read of the input, biases included, and twice of n."""
        opened, weights = 2 * self._units, self._weights
        rows_RD, (gates_RG, read_RH, _) = sequence_TBD.flatten(-3, -2), (part.flatten(-3, -2) for part in room)
        bias_G = (weights.input_G[..., :opened] + weights.state_G[..., :opened]).unsqueeze(-2)
        _plus(bias_G, rows_RD, weights.input_GD[..., :opened, :].mT, out=gates_RG[..., :opened])
        gates_RG[..., opened:] = weights.state_G[..., opened:].unsqueeze(-2)
        _plus(weights.input_G[..., opened:].unsqueeze(-2), rows_RD, weights.input_GD[..., opened:, :].mT, out=read_RH)
        # tanh(a) = 2 sigmoid(2 a) - 1, and a sigmoid takes a third of a tanh's time.
        read_RH.mul_(2)

    def step(self, before: Tensor, step: _Step, out: Tensor) -> None:
        """Write the states after a step, which follow from those before it."""
        gates, opened, reset, keep, heard, read, new = step
        _plus(gates, before, self._state_HG, out=gates)
        torch.sigmoid(opened, out=opened)
        torch.sigmoid(torch.addcmul(read, reset, heard, value=2, out=new), out=new)
        torch.add(self._minus_one, new, alpha=2, out=new)
        torch.lerp(new, before, keep, out=out)


class Direction:
    """One direction."""

    def __init__(self, backwards: bool) -> None:
        self._backwards = backwards

    def forward(self, sequence_TBD: Tensor, weights: Weights) -> Kept:
        """Return the states."""
        *networks, steps, windows, _ = sequence_TBD.shape
        units = weights.state_GH.shape[-1]
        framed_TBH = sequence_TBD.new_empty(*networks, steps + 2, windows, units)
        framed_TBH.select(-3, 0).zero_()
        framed_TBH.select(-3, -1).zero_()
        room, cell = _Room.like(sequence_TBD, units), _Cell(weights)
        cell.read(sequence_TBD, room)
        states = (self._before(framed_TBH), framed_TBH.narrow(-3, 1, steps))
        every = list(zip(*(part.unbind(-3) for part in states), room.by_step(), strict=True))
        for before, after, step in reversed(every) if self._backwards else every:
            cell.step(before, step, out=after)
        return Kept(framed_TBH, room.gates_TBG, room.new_TBH)

    def states(self, sequence_TBD: Tensor, weights: Weights, out_TBH: Tensor) -> None:
        """Write one network's states, and keep nothing for a derivative: each chunk's gates stay in a core's cache."""
        room, cell = _Room.like(sequence_TBD[:CHUNK], weights.state_GH.shape[-1]), _Cell(weights)
        each, before = room.by_step(), torch.zeros_like(room.new_TBH[0])
        starts = range(0, len(sequence_TBD), CHUNK)
        for start in reversed(starts) if self._backwards else starts:
            chunk_TBD, chunk_TBH = (part[start : start + CHUNK] for part in (sequence_TBD, out_TBH))
            cell.read(chunk_TBD, room.first(len(chunk_TBD)))
            every = list(zip(each, chunk_TBH.unbind(), strict=False))
            for step, after in reversed(every) if self._backwards else every:
                cell.step(before, step, out=after)
                before = after

    def backward(self, sequence_TBD: Tensor, weights: Weights, kept: Kept, d_states_TBH: Tensor) -> tuple[Tensor, ...]:
        """Return the derivatives of the input and of the four weights."""
        units = weights.state_GH.shape[-1]
        d_gates_TBG, d_new_TBH = torch.empty_like(kept.gates_TBG), torch.empty_like(kept.new_TBH)
        self._through_time(weights.state_GH, kept, d_states_TBH, d_gates_TBG, d_new_TBH)
        rows_RG, rows_RD = d_gates_TBG.flatten(-3, -2), sequence_TBD.flatten(-3, -2)
        d_state_GH = rows_RG.mT @ self._before(kept.framed_TBH).flatten(-3, -2)
        d_state_G = rows_RG.sum(dim=-2)
        # r and z take input and state alike; of n, r lets the state in, but not the input.
        d_gates_TBG[..., 2 * units :] = d_new_TBH
        d_input_G = torch.cat((d_state_G[..., : 2 * units], d_new_TBH.sum(dim=(-3, -2))), dim=-1)
        d_sequence_TBD = (rows_RG @ weights.input_GD).view_as(sequence_TBD)
        return d_sequence_TBD, rows_RG.mT @ rows_RD, d_state_GH, d_input_G, d_state_G

    def _through_time(
        self, state_GH: Tensor, kept: Kept, given_TBH: Tensor, d_gates_TBG: Tensor, d_new_TBH: Tensor
    ) -> None:
        """Fill in the derivatives of what goes into each gate: of r, z and the state's part of n, and of all of n."""
        units, steps = state_GH.shape[-1], given_TBH.shape[-3]
        order = range(steps) if self._backwards else range(steps)[::-1]
        keep_TBH = kept.gates_TBG[..., units : 2 * units]
        d_state_TBH = torch.empty_like(d_new_TBH)
        given, keep, d_state, d_gates = (part.unbind(-3) for part in (given_TBH, keep_TBH, d_state_TBH, d_gates_TBG))
        d_state_of_all = d_state_TBH.unsqueeze(-2).unbind(-4)
        d_each_gate = d_gates_TBG.view(*given_TBH.shape[:-1], 3, units).unbind(-4)
        later: int | None = None
        for start in range(0, steps, CHUNK):
            chunk = order[start : start + CHUNK]
            span = min(chunk), len(chunk)
            new_slope_TBH, slopes_TB3H = _slopes(kept, *span)
            slopes = slopes_TB3H.unbind(-4)
            for t in chunk:
                if later is None:
                    d_state[t].copy_(given[t])
                else:
                    torch.addcmul(given[t], d_state[later], keep[later], out=d_state[t])
                    _plus(d_state[t], d_gates[later], state_GH, out=d_state[t])
                torch.mul(slopes[t - span[0]], d_state_of_all[t], out=d_each_gate[t])
                later = t
            torch.mul(d_state_TBH.narrow(-3, *span), new_slope_TBH, out=d_new_TBH.narrow(-3, *span))

    def _before(self, framed_TBH: Tensor) -> Tensor:
        """Return the state before each step."""
        return framed_TBH.narrow(-3, 2 if self._backwards else 0, framed_TBH.shape[-3] - 2)


def _slopes(kept: Kept, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Return by what the derivative of a state is multiplied: for n, and for r, z and the state's part of n."""
    parts = (kept.gates_TBG, kept.new_TBH, kept.states_TBH)
    gates_TBG, new_TBH, after_TBH = (part.narrow(-3, first, count) for part in parts)
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


def _plus(addend: Tensor, left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Return addend + left @ right, of one network's matrices or of several networks'."""
    return (torch.addmm if left.ndim == 2 else torch.baddbmm)(addend, left, right, out=out)
