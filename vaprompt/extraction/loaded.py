"""The encoders of one extraction, loaded on every device when they are first needed, and the size of their batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch

from vaprompt.encoders.base import AudioEncoder, ImageEncoder
from vaprompt.extraction.batch_size import fastest, pictures, sizes, sounds
from vaprompt.extraction.handover import pictures_together, stored, windows_on
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.extraction.stages import RunLog


@dataclass
class Encoders:
    """Encoders that threads share; a stream that nothing is missing of never loads its own."""

    recipe: ExtractRecipe
    devices: Sequence[str]
    load_image: Callable[[str], ImageEncoder]
    """From a device to the encoder on it."""
    load_audio: Callable[[str], AudioEncoder]
    log: RunLog
    _image: dict[str, ImageEncoder] = field(default_factory=dict)
    _audio: dict[str, AudioEncoder] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def image(self, device: str | None = None) -> ImageEncoder:
        """Return the encoder of pictures on a device (None: the first)."""
        device = device or self.devices[0]
        with self._lock:
            if device not in self._image:
                self._image[device] = self.load_image(device)
                _settle(device)
            return self._image[device]

    def audio(self, device: str | None = None) -> AudioEncoder:
        """Return the encoder of sound on a device (None: the first)."""
        device = device or self.devices[0]
        with self._lock:
            if device not in self._audio:
                self._audio[device] = self.load_audio(device)
                _settle(device)
            return self._audio[device]

    def prepare(self, streams: Collection[str]) -> None:
        """Load what encodes these streams, and only then measure the sizes of batches, before anything is encoded.

        A batch that just fits beside one network may not fit beside two, nor beside another stream's batches.
        """
        with self._lock:
            if "image" in streams:
                self.image()
            if "audio" in streams:
                self.audio()
            for stream in ("image", "audio"):
                if stream in streams:
                    self.batch(stream)

    def batch(self, stream: str) -> int:
        """Return how many items of `image` or `audio` are encoded at once; measured, if the recipe leaves it open."""
        with self._lock:
            if stream not in self._sizes:
                encoder = self.recipe.image if stream == "image" else self.recipe.audio
                compiled = None if torch.device(self.devices[0]).type == "cpu" else encoder.compiled_for
                self._sizes[stream] = compiled or (self._measured(stream) if encoder.batch == "auto" else encoder.batch)
            return self._sizes[stream]

    def _measured(self, stream: str) -> int:
        device = self.devices[0]
        candidates = sizes(device, stream)
        if stream == "image":
            seeing = self.image()
            # Crops of Aff-Wild2's size: on an accelerator, resizing is part of it.
            image_BHWC = pictures(candidates[-1], 112)
            size, speeds = fastest(
                lambda count: stored(seeing.encode(pictures_together([image_BHWC[:count]], device)), stream),
                candidates,
                device=device,
            )
        else:
            hearing = self.audio()
            wave_BL = sounds(candidates[-1], round(self.recipe.audio.window * hearing.rate))
            size, speeds = fastest(
                lambda count: stored(hearing.encode(windows_on([wave_BL[:count]], device)), stream),
                candidates,
                device=device,
            )
        self.log.write("batch", stream=stream, size=size, per_second={str(k): round(v, 3) for k, v in speeds.items()})
        return size


def _settle(device: str) -> None:
    """Wait until weights lie on an accelerator: they are used on other streams than the one that copied them."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
