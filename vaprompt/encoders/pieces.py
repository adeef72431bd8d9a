"""Running a frozen network over a batch: on the processor in pieces of one size, elsewhere at once.

What an item becomes must not depend on what lies beside it in a batch, or a run that was killed and goes on would end
with other bytes. On the processor a product's sums depend on how many rows it has, but, in one thread, not on which row
it is. So there the network always sees pieces of the same size, filled up where there are fewer items.

Axes: B items.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaprompt.lanes import lanes


class InPieces:
    """A network that takes a batch, and returns its embeddings on its own device, in float32."""

    def __init__(
        self, network: Callable[[Tensor], Tensor], device: torch.device, *, piece: int, compiled: int | None = None
    ) -> None:
        """Run `network` on a device.

        Args:
            network: takes a batch on the device.
            device: where it runs.
            piece: items it sees at once on the processor; of no meaning elsewhere.
            compiled: the size of batch that it is compiled for, elsewhere; None: it takes any.
        """
        self._network, self._device, self._piece, self._compiled = network, device, piece, compiled
        self._in_lanes = device.type == "cpu"

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the embeddings of a batch (B, ...)."""
        if self._in_lanes:
            return torch.cat(lanes().map(self._one_piece, torch.split(input, self._piece)))
        parts = [self._elsewhere(some) for some in torch.split(input, self._compiled or max(1, len(input)))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @torch.inference_mode()
    def _elsewhere(self, input: Tensor) -> Tensor:  # noqa: A002
        items = len(input)
        input = _filled(input, self._compiled or items)  # noqa: A001
        pinned = self._device.type == "cuda" and input.device.type == "cpu"
        if pinned:
            # Such memory, and no other, is not used again before the device has fetched what is in it.
            input = input.pin_memory()  # noqa: A001
        return self._network(input.to(self._device, non_blocking=pinned)).float()[:items]

    @torch.inference_mode()
    def _one_piece(self, input: Tensor) -> Tensor:  # noqa: A002
        return self._network(_filled(input, self._piece)).float()[: len(input)]


def _filled(input: Tensor, size: int) -> Tensor:  # noqa: A002
    missing = size - len(input)
    if missing <= 0:
        return input
    return torch.cat((input, input.new_zeros(missing, *input.shape[1:])))


def piece_size(network: Callable[[Tensor], Tensor], probe: Tensor) -> int:
    """Return how many items a network on the processor may see at once: as many as are in `probe`, or one.

    One, if in one thread it should matter which place in the batch an item has.
    """

    @torch.inference_mode()
    def outputs(turn: int) -> Tensor:
        return network(probe.roll(turn, 0)).roll(-turn, 0)

    first, *others = lanes().map(outputs, [0, 1, len(probe) // 2])
    return len(probe) if all(torch.equal(first, other) for other in others) else 1
