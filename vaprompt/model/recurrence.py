"""The bidirectional gated recurrent unit in torch's form, forward and backward, with little left over but arithmetic.

On the processor torch's own GRU spends half its time between the products: it makes a dozen tensors a step, and adds
the weights' gradient up step by step. Here all steps share a few blocks of memory, and the weights' gradient is one
product over all steps. Where two threads work on a batch, each of them computes one direction for both.
The same code computes several networks at once, as one product for all of them.

Axes: V networks (or none), T steps, B windows, D channels of the input, H units.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaprompt.meeting import Meeting, meeting
from vaprompt.model.direction import Direction, Kept, Weights

Tensors = TypeVar("Tensors", bound="tuple[Tensor, ...]")


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
    kind, dtype = sequence_TBD.device.type, forth.input_GD.dtype
    if kind == "cpu" and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    with torch.autocast(kind, enabled=False):
        return _bidirectional(sequence_TBD.to(dtype), forth, back)


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
        Direction(bool(backwards)).states(sequence_TBD, weights, out_TBH.chunk(2, dim=-1)[backwards])
    return out_TBH


class _Alone(torch.autograd.Function):
    """Both directions. It gives what the derivative needs besides, as it must where several networks are computed."""

    @staticmethod
    def forward(sequence_TBD: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        sequence_TBD = sequence_TBD.contiguous()

        def run(backwards: bool) -> tuple[Tensor, ...]:
            return Direction(backwards).forward(sequence_TBD, _of_direction(weights, backwards)).tensors

        every = _side_by_side(run, sequence_TBD.device)
        return torch.cat([Kept.of(tensors).states_TBH for tensors in every], dim=-1), *every[0], *every[1]

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
            mine = Kept.of(kept[len(kept) // 2 :] if backwards else kept[: len(kept) // 2])
            return Direction(backwards).backward(
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
        ctx.kept = Direction(backwards).forward(ctx.sequence_TBD, ctx.weights)
        both = here.exchange(ctx.kept.states_TBH)
        return torch.cat([_share(states_TBH, ctx.sizes, here) for states_TBH in both], dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        here = meeting()
        assert here is not None, "forward and backward belong to meetings of the same threads"
        backwards = here.index == 1
        of_both = here.exchange(gradients[0].chunk(2, dim=-1))
        d_states_TBH = torch.cat([part[here.index] for part in of_both], dim=-2)
        d_sequence_TBD, *d_weights = Direction(backwards).backward(
            ctx.sequence_TBD, ctx.weights, ctx.kept, d_states_TBH
        )
        of_directions = here.exchange(d_sequence_TBD)
        forth_TBD, back_TBD = (_share(part_TBD, ctx.sizes, here) for part_TBD in of_directions)
        others = [None] * len(d_weights)
        return forth_TBD + back_TBD, None, *(others + d_weights if backwards else d_weights + others)


def _share(sequence_TBD: Tensor, sizes: Sequence[int], here: Meeting) -> Tensor:
    """Return the windows that a thread brought."""
    return sequence_TBD.narrow(-2, sum(sizes[: here.index]), sizes[here.index])


def _of_direction(weights: Sequence[Tensor], backwards: bool) -> Weights:
    return Weights(*(weights[4:] if backwards else weights[:4]))


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
