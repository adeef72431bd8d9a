"""A run and encoders that cost next to nothing, in place of those that a folder holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaprompt.model.estimator import Estimator
from vaprompt.prediction import predict as module
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import Run

IMAGE = 12


class Colours:
    """Encodes a picture as the mean colours of its four quarters."""

    dim = IMAGE
    fingerprint: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, image_BHWC: np.ndarray) -> torch.Tensor:
        self.encoded += len(image_BHWC)
        half, middle = image_BHWC.shape[1] // 2, image_BHWC.shape[2] // 2
        quarters = [
            image_BHWC[:, rows, columns].mean(axis=(1, 2)) / 255
            for rows in (slice(half), slice(half, None))
            for columns in (slice(middle), slice(middle, None))
        ]
        return torch.from_numpy(np.concatenate(quarters, axis=1).astype(np.float32))

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.zeros(len(texts), IMAGE)


class Loudness:
    """Encodes a window of sound as the loudness of its parts, over and over in as many channels as wanted."""

    fingerprint: dict[str, Any] = {}  # noqa: RUF012
    rate = 100

    def __init__(self, steps: int = 4, dim: int = 10) -> None:
        self.steps, self.dim = steps, dim

    def encode(self, wave_BL: torch.Tensor) -> torch.Tensor:
        loud_BS = torch.stack([part.abs().mean(dim=1) for part in wave_BL.tensor_split(self.steps, dim=1)], dim=1)
        return loud_BS[:, :, None].expand(-1, -1, self.dim).contiguous()


BOTH = ("image", "audio")


def cheap_run(audio: Loudness, faces: str = "crops", modalities: Sequence[str] = BOTH) -> Run:
    """Return a run with random weights."""
    torch.manual_seed(0)
    model = {"width": 8, "modalities": tuple(modalities)}
    recipe = TrainRecipe.model_validate({"window": {"seconds": 4.0, "stride": 1.5, "frames": 5}, "model": model})
    dims = {name: dim for name, dim in (("image", IMAGE), ("audio", audio.dim)) if name in modalities}
    prototype_KE = torch.nn.functional.normalize(torch.randn(9, IMAGE), dim=1)
    estimator = Estimator(recipe.model, image_dim=IMAGE, audio_dim=audio.dim, prototype_KE=prototype_KE)
    facts: dict[str, Any] = {
        "dims": dims,
        "extraction": {"audio": {"window": 4.0, "hop": 1.0}},
        "store": {"dataset": {"faces": faces}, "fingerprints": {name: {} for name in dims}},
    }
    return Run(Path("cheap"), recipe, facts, estimator.eval(), "cpu")


def use(
    monkeypatch,
    *,
    audio: Loudness | None = None,
    faces: str = "crops",
    detector=None,
    modalities: Sequence[str] = BOTH,
) -> Colours:
    """Let `predict` load these; without a `detector` it is as if the extra were not installed."""
    hearing, seeing = audio or Loudness(), Colours()
    monkeypatch.setattr(module, "load_run", lambda run, device: cheap_run(hearing, faces, modalities))
    monkeypatch.setattr(module, "image_encoder", lambda recipe, device: seeing)
    monkeypatch.setattr(module, "audio_encoder", lambda recipe, device: hearing)
    monkeypatch.setattr(module, "remarks", lambda extraction: [])
    monkeypatch.setattr(
        module, "missing", lambda: None if detector else "the face detector is not installed (x missing)"
    )
    if detector:
        monkeypatch.setattr(module, "CenterFace", lambda: detector)
    return seeing
