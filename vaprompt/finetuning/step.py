"""One step of fine-tuning: CCC over a whole batch of windows, though only some of them fit into the encoders at once.

CCC is no mean over windows, so gradients of parts of a batch do not add up to that of the batch. Where a batch does not
fit, all of it is encoded without gradients first; the heads, which are small, see it whole, and give the gradient of
every embedding; then each part is encoded once more, with gradients, and what the heads gave goes on backwards through
it (Gao et al. 2021 call it a gradient cache). What is drawn at random in an encoder is the same both times.

Axes: B windows in the batch, T pictures of a window, S their side, C colours, F columns of the sound's picture, M mel
bins, I and A channels of embeddings; N pictures of all windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from vaprompt.encoders.trainable import TrainableAudio, TrainableImage
from vaprompt.finetuning.tuning import set_learning
from vaprompt.model.estimator import Estimate
from vaprompt.seeds import derived_seed

Stream = Literal["image", "audio"]
STREAMS: tuple[Stream, ...] = ("image", "audio")

Heads = Callable[[Tensor | None, Tensor | None], Estimate]
Losses = Callable[[Estimate], tuple[Tensor, Tensor]]
"""Gives the loss that is minimised, and what is told of it: it and its two parts (3,), apart from any graph."""


@dataclass(frozen=True)
class RawBatch:
    """Windows of raw media on the device; None where a modality is not used."""

    image_BTSSC: UInt8[Tensor, "B T S S 3"] | None
    mel_BFM: Float32[Tensor, "B F M"] | None

    def __len__(self) -> int:
        """Return B."""
        return next(len(value) for value in (self.image_BTSSC, self.mel_BFM) if value is not None)

    def parts(self, most: int) -> list[RawBatch]:
        """Return the windows in runs of at most so many."""
        return [
            RawBatch(*(None if value is None else value[start : start + most] for value in self._values()))
            for start in range(0, len(self), most)
        ]

    def _values(self) -> list[Tensor | None]:
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True)
class Embeddings:
    """What the encoders make of windows, in single precision, as cached features are given to the heads."""

    image_BTI: Float[Tensor, "B T I"] | None
    audio_BSA: Float[Tensor, "B S A"] | None

    def of(self, stream: Stream) -> Tensor | None:
        """Return one stream's."""
        return self.image_BTI if stream == "image" else self.audio_BSA


class RawEncoders(nn.Module):
    """The encoders of a fine-tuning, from raw windows to embeddings."""

    def __init__(
        self,
        image: TrainableImage | None,
        audio: TrainableAudio | None,
        learning: Mapping[str, Mapping[str, nn.Parameter]],
        dtype: torch.dtype,
    ) -> None:
        """Encode with these networks.

        Args:
            image: sees; None where the heads do not look.
            audio: hears; None where they do not listen.
            learning: what is trained of each stream.
            dtype: number format of the networks' arithmetic.
        """
        super().__init__()
        self.image, self.audio, self._dtype = image, audio, dtype
        self.tuned: tuple[Stream, ...] = tuple(stream for stream in STREAMS if learning.get(stream))

    def encode(self, batch: RawBatch, streams: tuple[Stream, ...] = STREAMS) -> Embeddings:
        """Return the embeddings of windows, of the streams that are wanted; frozen encoders keep no graph."""
        image_BTI = audio_BSA = None
        image_BTSSC, mel_BFM = batch.image_BTSSC, batch.mel_BFM
        if self.image is not None and image_BTSSC is not None and "image" in streams:
            with self._arithmetic("image", image_BTSSC.device):
                image_NI = self.image(image_BTSSC.flatten(0, 1))
            image_BTI = image_NI.float().unflatten(0, image_BTSSC.shape[:2])
        if self.audio is not None and mel_BFM is not None and "audio" in streams:
            with self._arithmetic("audio", mel_BFM.device):
                audio_BSA = self.audio(mel_BFM)
            audio_BSA = audio_BSA.float()
        return Embeddings(image_BTI, audio_BSA)

    def set_learning(self, learning: bool) -> None:
        """Switch what drops at random in tuned encoders on or off."""
        for stream in STREAMS:
            encoder = getattr(self, stream)
            if encoder is not None:
                set_learning(encoder, learning and stream in self.tuned)

    @contextmanager
    def _arithmetic(self, stream: Stream, device: torch.device) -> Iterator[None]:
        # A context for each pass: what autocast has cast without gradients must not be taken for what needs them.
        graph = torch.is_grad_enabled() and stream in self.tuned
        with (
            torch.set_grad_enabled(graph),
            torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32),
        ):
            yield


def backward(
    encoders: RawEncoders,
    heads: Heads,
    batch: RawBatch,
    losses: Losses,
    *,
    at_once: int,
    seed: int,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> Float[Tensor, "3"]:
    """Add the gradients of a batch's loss to those of the parameters that learn, and return the loss and its parts.

    Args:
        encoders: make embeddings of raw windows.
        heads: make an estimate of embeddings.
        batch: the windows.
        losses: of an estimate of the whole batch.
        at_once: windows in the encoders at once.
        seed: of all that is drawn at random in this step.
        scale: what the loss is multiplied with, for fp16.
    """
    device = next(value.device for value in (batch.image_BTSSC, batch.mel_BFM) if value is not None)
    parts = batch.parts(at_once)
    if len(parts) == 1:
        with _seeded(seed, device):
            embeddings = encoders.encode(batch)
        loss, told = _heads(heads, embeddings, losses, seed, device)
        scale(loss).backward()  # type: ignore[no-untyped-call]
        return told

    pieces = []
    with torch.no_grad():
        for number, part in enumerate(parts):
            with _seeded(derived_seed(seed, number), device):
                pieces.append(encoders.encode(part))
    joined = {stream: _joined([piece.of(stream) for piece in pieces]) for stream in STREAMS}
    for stream in encoders.tuned:
        leaf = joined[stream]
        assert leaf is not None
        leaf.requires_grad_()
    del pieces
    loss, told = _heads(heads, Embeddings(joined["image"], joined["audio"]), losses, seed, device)
    scale(loss).backward()  # type: ignore[no-untyped-call]
    gradients = {stream: joined[stream].grad for stream in encoders.tuned}  # type: ignore[union-attr]
    first = 0
    for number, part in enumerate(parts if encoders.tuned else []):
        rows = slice(first, first := first + len(part))
        with _seeded(derived_seed(seed, number), device):
            piece = encoders.encode(part, encoders.tuned)
        # A stream that the loss does not depend on has no gradient.
        pairs = [(piece.of(stream), gradient) for stream, gradient in gradients.items() if gradient is not None]
        values = [value for value, _ in pairs if value is not None]
        torch.autograd.backward(values, [gradient[rows] for _, gradient in pairs])
    return told


def _heads(
    heads: Heads, embeddings: Embeddings, losses: Losses, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    # Heads draw the same, however many windows fit into the encoders at once.
    with _seeded(seed, device):
        return losses(heads(embeddings.image_BTI, embeddings.audio_BSA))


def _joined(pieces: list[Tensor | None]) -> Tensor | None:
    there = [piece for piece in pieces if piece is not None]
    return torch.cat(there) if there else None


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
