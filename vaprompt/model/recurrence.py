"""The bidirectional gated recurrent unit in torch's form, forward and backward, with little left over but arithmetic.

On the processor torch's own GRU spends half its time between the products: it makes a dozen tensors a step, and adds
the weights' gradient up step by step. Here all steps share a few blocks of memory, and the weights' gradient is one
product over all steps. Where two threads work on a batch, each of them computes one direction for both.
The same code computes several networks at once, as one product for all of them.

    r, z = sigmoid(W_rz x + b_rz + U_rz h + c_rz)
    n = tanh(W_n x + b_n + r (U_n h + c_n))
    h' = n + z (h - n)

Axes: V networks (or none), T steps, B windows, D channels of the input, H units; G = 3 H: r, z and n below each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaprompt.meeting import Meeting, meeting

Tensors = TypeVar("Tensors", bound="tuple[Tensor, ...]")

CHUNK = 8
"""Steps whose derivatives are prepared together: as many as stay in a core's cache."""


class Weights(NamedTuple):
    """One direction's, as torch.nn.GRU keeps them; those of several networks below each other."""

    input_GD: Float[Tensor, "*V G D"]
    state_GH: Float[Tensor, "*V G H"]
    input_G: Float[Tensor, "*V G"]
    state_G: Float[Tensor, "*V G"]


def bidirectional(sequence_TBD: Float[Tensor, "*V T B D"], forth: Weights, back: Weights) -> Float[Tensor, "*V T B H2"]:
    """Return the states of a bidirectional GRU at every step: first those that know the past, then those of the rest.

    In a meeting of two threads each brings its windows, and gets their states.

    Args:
        sequence_TBD: the input, time before windows.
        forth: the weights of the direction that begins at the first step.
        back: those of the one that begins at the last.
    """
    weights = (*forth, *back)
    if sequence_TBD.device.type == "cuda" and not _APART.get():
        return _of_cudnn(sequence_TBD, weights)
    with torch.autocast(sequence_TBD.device.type, enabled=False):
        return _bidirectional(sequence_TBD.to(forth.input_GD.dtype), forth, back)


@contextmanager
def several_networks() -> Iterator[None]:
    """Compute recurrences of several networks as one while the block runs, as cuDNN cannot."""
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)


_APART: ContextVar[bool] = ContextVar("several networks", default=False)


def _of_cudnn(sequence_TBD: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return what `bidirectional` does, by NVIDIA's kernels, in the precision that products are to have."""
    kind = sequence_TBD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weights[0].dtype
    sequence_TBD, weights = sequence_TBD.to(dtype), [weight.to(dtype) for weight in weights]
    start_2BH = sequence_TBD.new_zeros(2, sequence_TBD.shape[1], weights[1].shape[1])
    with torch.autocast(kind, enabled=False), warnings.catch_warnings():
        # It wants all weights in one block of its own form, and copies them there: a few microseconds.
        warnings.filterwarnings("ignore", message="RNN module weights")
        states_TBH: Tensor = torch.gru(sequence_TBD, start_2BH, weights, True, 1, 0.0, True, True, False)[0]
    return states_TBH


def _bidirectional(sequence_TBD: Tensor, forth: Weights, back: Weights) -> Tensor:
    here = meeting()
    if here is not None and here.count == 2:
        shared_TBH: Tensor = _Shared.apply(sequence_TBD, here, *forth, *back)
        return shared_TBH
    if not torch.is_grad_enabled() and not _APART.get() and sequence_TBD.device.type == "cpu":
        return _states_alone(sequence_TBD.contiguous(), forth, back)
    states_TBH: Tensor = _Alone.apply(sequence_TBD, *forth, *back)[0]
    return states_TBH


def _states_alone(sequence_TBD: Tensor, forth: Weights, back: Weights) -> Tensor:
    """Return the states of both directions, without a derivative."""
    units = forth.state_GH.shape[-1]
    out_TBH = sequence_TBD.new_empty(*sequence_TBD.shape[:-1], 2 * units)
    for backwards, weights in enumerate((forth, back)):
        _Direction(bool(backwards)).states(sequence_TBD, weights, out_TBH.chunk(2, dim=-1)[backwards])
    return out_TBH


class _Alone(torch.autograd.Function):
    """Both directions. It gives what the derivative needs besides, as it must where several networks are computed."""

    @staticmethod
    def forward(sequence_TBD: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        sequence_TBD = sequence_TBD.contiguous()

        def run(backwards: bool) -> _Kept:
            return _Direction(backwards).forward(sequence_TBD, _of_direction(weights, backwards))

        forth, back = _side_by_side(run, sequence_TBD.device)
        return torch.cat((_states(forth), _states(back)), dim=-1), *forth, *back

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, d_states_TBH: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if d_states_TBH is None:
            return (None,) * 9
        sequence_TBD, *weights = ctx.saved_tensors[:9]
        kept, sequence_TBD = ctx.saved_tensors[9:], sequence_TBD.contiguous()
        given = d_states_TBH.chunk(2, dim=-1)

        def run(backwards: bool) -> tuple[Tensor, ...]:
            mine = _Kept(*(kept[len(kept) // 2 :] if backwards else kept[: len(kept) // 2]))
            return _Direction(backwards).backward(
                sequence_TBD, _of_direction(weights, backwards), mine, given[backwards]
            )

        (d_forth, *forth), (d_back, *back) = _side_by_side(run, sequence_TBD.device)
        return d_forth.add_(d_back), *forth, *back

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Compute several networks as one."""
        together = (
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(inputs, in_dims, strict=True)
        )
        outputs = _Alone.apply(*together)
        return outputs, (0,) * len(outputs)


class _Shared(torch.autograd.Function):
    """One direction for the windows of both threads of a meeting, whose other thread sees to the other direction."""

    @staticmethod
    def forward(ctx: Any, sequence_TBD: Tensor, here: Meeting, *weights: Tensor) -> Tensor:
        sequences = here.exchange(sequence_TBD)
        ctx.sizes = [part.shape[-2] for part in sequences]
        backwards = here.index == 1
        ctx.sequence_TBD, ctx.weights = torch.cat(sequences, dim=-2), _of_direction(weights, backwards)
        ctx.kept = _Direction(backwards).forward(ctx.sequence_TBD, ctx.weights)
        both = here.exchange(_states(ctx.kept))
        return torch.cat([_share(states_TBH, ctx.sizes, here) for states_TBH in both], dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        here = meeting()
        assert here is not None, "forward and backward belong to meetings of the same threads"
        backwards = here.index == 1
        of_both = here.exchange(gradients[0].chunk(2, dim=-1))
        d_states_TBH = torch.cat([part[here.index] for part in of_both], dim=-2)
        d_sequence_TBD, *d_weights = _Direction(backwards).backward(
            ctx.sequence_TBD, ctx.weights, ctx.kept, d_states_TBH
        )
        of_directions = here.exchange(d_sequence_TBD)
        forth_TBD, back_TBD = (_share(part_TBD, ctx.sizes, here) for part_TBD in of_directions)
        others = [None] * len(d_weights)
        return forth_TBD + back_TBD, None, *(others + d_weights if backwards else d_weights + others)


def _share(sequence_TBD: Tensor, sizes: Sequence[int], here: Meeting) -> Tensor:
    """Return the windows that a thread brought."""
    return sequence_TBD.narrow(-2, sum(sizes[: here.index]), sizes[here.index])


class _Kept(NamedTuple):
    """What a direction gives, and keeps for its derivative."""

    framed_TBH: Tensor
    """The states, with a row of zeros before and after them: where the two directions begin."""
    gates_TBG: Tensor
    """r, z and U_n h + c_n."""
    new_TBH: Tensor
    """n."""


def _states(kept: _Kept) -> Tensor:
    return kept.framed_TBH.narrow(-3, 1, kept.framed_TBH.shape[-3] - 2)


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


class _Direction:
    """One direction."""

    def __init__(self, backwards: bool) -> None:
        self._backwards = backwards

    def forward(self, sequence_TBD: Tensor, weights: Weights) -> _Kept:
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
        return _Kept(framed_TBH, room.gates_TBG, room.new_TBH)

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

    def backward(self, sequence_TBD: Tensor, weights: Weights, kept: _Kept, d_states_TBH: Tensor) -> tuple[Tensor, ...]:
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
        self, state_GH: Tensor, kept: _Kept, given_TBH: Tensor, d_gates_TBG: Tensor, d_new_TBH: Tensor
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


def _slopes(kept: _Kept, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Return by what the derivative of a state is multiplied: for n, and for r, z and the state's part of n."""
    parts = (kept.gates_TBG, kept.new_TBH, _states(kept))
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


def _of_direction(weights: Sequence[Tensor], backwards: bool) -> Weights:
    return Weights(*(weights[4:] if backwards else weights[:4]))


def _plus(addend: Tensor, left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Return addend + left @ right, of one network's matrices or of several networks'."""
    return (torch.addmm if left.ndim == 2 else torch.baddbmm)(addend, left, right, out=out)


def _side_by_side(run: Callable[[bool], Tensors], device: torch.device) -> tuple[Tensors, Tensors]:
    """Return what `run` makes of both directions, at the same time in two streams of a GPU."""
    if device.type != "cuda":
        return run(False), run(True)
    here, beside = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    beside.wait_stream(here)
    with torch.cuda.stream(beside):
        back = run(True)
    forth = run(False)
    here.wait_stream(beside)
    for tensor in back:
        tensor.record_stream(here)
    return forth, back
