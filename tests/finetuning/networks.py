"""A small CLIP, a small AST and heads on top of them, and windows of noise."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.trainable import TrainableAudio, TrainableImage
from vaprompt.finetuning.recipe import TuningRecipe
from vaprompt.finetuning.step import RawBatch, RawEncoders
from vaprompt.finetuning.tuning import choose, save_memory
from vaprompt.model.estimator import Estimate, Estimator, ModelRecipe
from vaprompt.recipes import validated
from vaprompt.training.losses import ccc_loss, region_loss

WINDOWS, STEPS, SIDE = 6, 3, 112


def encoders(
    image: TuningRecipe | None = None, audio: TuningRecipe | None = None, *, checkpointing: bool = False
) -> tuple[RawEncoders, dict[str, torch.nn.Parameter]]:
    """Return the miniatures, prepared for training, and what learns of them."""
    seeing = TrainableImage(ImageEncoderRecipe(model="embedded", weights="embedded"))
    hearing = TrainableAudio(AudioEncoderRecipe(model="embedded", weights="embedded", window=2.0, steps=8))
    learning = {
        "image": choose(seeing, image or TuningRecipe(), "image"),
        "audio": choose(hearing, audio or TuningRecipe(), "audio"),
    }
    if checkpointing:
        save_memory(seeing)
        save_memory(hearing)
    tuned = {f"{stream}.{name}": value for stream, found in learning.items() for name, value in found.items()}
    raw = RawEncoders(seeing, hearing, learning, torch.float32)
    raw.set_learning(True)
    return raw, tuned


def heads(dim: int, sound: int, **fields) -> Estimator:
    """Return small heads that drop at random."""
    torch.manual_seed(0)
    recipe = validated(ModelRecipe, {"width": 16, "fusion": {"feedforward": 32}, **fields}, where="test")
    prototypes = torch.nn.functional.normalize(torch.randn(9, dim), dim=-1)
    return Estimator(recipe, image_dim=dim, audio_dim=sound, prototype_KE=prototypes).train()


def windows() -> RawBatch:
    generator = torch.Generator().manual_seed(2)
    image_BTSSC = torch.randint(0, 256, (WINDOWS, STEPS, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    return RawBatch(image_BTSSC, torch.randn(WINDOWS, 1024, 128, generator=generator))


def losses(kl: float = 0.2) -> Callable[[Estimate], tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(4)
    truth_B2 = torch.rand(WINDOWS, 2, generator=generator) * 2 - 1
    soft_BK = torch.softmax(torch.randn(WINDOWS, 9, generator=generator), dim=1)

    def of(estimate: Estimate) -> tuple[torch.Tensor, torch.Tensor]:
        ccc, divergence = ccc_loss(estimate.value, truth_B2), region_loss(estimate.region_BK, soft_BK)
        loss = ccc + kl * divergence
        return loss, torch.stack((loss, ccc, divergence)).detach()

    return of
