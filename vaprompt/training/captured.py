"""A computation on a GPU that is recorded once and replayed, without Python or launches in between.

Small steps leave a GPU waiting for the processor, which starts every operation; a recorded one is started as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM = 3
"""Times that a computation runs before it is recorded, so that libraries have chosen their algorithms."""


class Captured:
    """A computation whose inputs have the same shapes each time, and that waits for nothing on the processor."""

    def __init__(
        self,
        compute: Callable[..., Tensor],
        *,
        state: Callable[[], Sequence[Tensor]],
        generators: Sequence[torch.Generator],
    ) -> None:
        """Prepare to record at the first call.

        Args:
            compute: from tensors to a tensor; None among its inputs is passed on.
            state: the tensors that it changes, which recording leaves as they were.
            generators: what it draws from, likewise.
        """
        self._compute, self._state, self._generators = compute, state, generators
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor | None] = []
        self._output: Tensor | None = None

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Return what the computation gives."""
        if self._graph is None:
            self._graph = self._recorded(inputs)
        for held, given in zip(self._inputs, inputs, strict=True):
            if held is not None and given is not None:
                held.copy_(given, non_blocking=True)
        self._graph.replay()
        assert self._output is not None
        return self._output.clone()

    def _recorded(self, inputs: Sequence[Tensor | None]) -> torch.cuda.CUDAGraph:
        self._inputs = [None if given is None else given.clone() for given in inputs]
        state = self._state()
        before = [tensor.clone() for tensor in state]
        drawn = [generator.get_state() for generator in self._generators]
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM):
                self._compute(*self._inputs)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self._output = self._compute(*self._inputs)
        with torch.no_grad():
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
        for generator, value in zip(self._generators, drawn, strict=True):
            generator.set_state(value)
        return graph
