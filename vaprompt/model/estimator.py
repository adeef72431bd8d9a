"""The whole estimator: projections, temporal encoders, fusion, regression head and region head.

Axes: B windows in the batch, U sounds that they hear, T image steps, S audio steps, I and A the cached embeddings'
channels, D the model's channels, H attention heads, K regions; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from jaxtyping import Float, Int64
from pydantic import Field, model_validator
from torch import Tensor, nn

from vaprompt.model.audio_cnn import AudioCNN
from vaprompt.model.dropout import WindowDropout
from vaprompt.model.fusion import Fused, Fusion, FusionRecipe
from vaprompt.model.heads import ExpectationHead, HeadRecipe, RegressionHead
from vaprompt.model.prompts import ClipRegionHead, Context, ContextRegionHead, FusedRegionHead, PromptRecipe
from vaprompt.model.temporal import TemporalRecipe, temporal_encoder
from vaprompt.recipes import Recipe

Modality = Literal["image", "audio"]


class ModelRecipe(Recipe):
    """The network that is trained on cached features."""

    modalities: tuple[Modality, ...] = ("image", "audio")
    """What it sees and hears."""
    width: int = Field(256, ge=8, le=4096)
    """Channels of everything after the projections (paper: 256)."""
    audio_encoder: Literal["linear", "cnn"] = "linear"
    """What takes cached audio to the model's width: a projection, or Table 1's CNN on cached log-Mel frames."""
    temporal: TemporalRecipe = TemporalRecipe()
    fusion: FusionRecipe = FusionRecipe()
    head: HeadRecipe = HeadRecipe()
    prompt: PromptRecipe = PromptRecipe()
    modality_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the training windows that hear silence in place of their sound (ours)."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelRecipe:
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must be image, audio, or both, each once")
        if self.width % self.fusion.heads:
            raise ValueError(f"fusion.heads = {self.fusion.heads} must divide width = {self.width}")
        if self.prompt.semantic == "clip" and "image" not in self.modalities:
            raise ValueError("prompt.semantic = 'clip' compares image embeddings: add 'image' to modalities")
        if self.head.output == "sequence" and "image" not in self.modalities:
            raise ValueError("head.output = 'sequence' predicts for image steps: add 'image' to modalities")
        if self.prompt.words == "learned_context" and self.prompt.semantic != "fused":
            raise ValueError("prompt.words = 'learned_context' goes with prompt.semantic = 'fused'")
        if self.modality_dropout and len(self.modalities) < 2:
            raise ValueError("modality_dropout takes sound away from windows that have pictures too: set it to 0")
        return self


class Estimate(NamedTuple):
    """What the estimator says of a batch of windows."""

    value: Float[Tensor, "B *T 2"]
    """Valence and arousal: (B, 2), or (B, T, 2) for `sequence`; not limited to [-1, 1]."""
    region_BK: Float[Tensor, "B K"]
    """Region logits, before the softmax."""
    gate_BTD: Float[Tensor, "B T D"] | None
    """How much sound was let in; None without a gate."""
    attention_BHTS: Float[Tensor, "B H T S"] | None
    """How much of each audio step each image step took, in each head; None without attention. The CNN's steps are its
    own, one for 16 frames of the log-Mel."""


class Projection(nn.Linear):
    """Takes embeddings to the model's width.

    They lie in memory window by window. It is its output, and not its input of several times the size, that is put in
    the order of time.
    """

    def forward(self, embedding_TBI: Float[Tensor, "T B I"]) -> Float[Tensor, "T B D"]:
        """Return the sequence in which time stands before the windows."""
        return super().forward(embedding_TBI.transpose(0, 1)).transpose(0, 1)


class Estimator(nn.Module):
    """Valence and arousal of windows of cached features."""

    def __init__(
        self,
        recipe: ModelRecipe,
        *,
        image_dim: int,
        audio_dim: int,
        prototype_KE: Float[Tensor, "K E"],
        centre_K2: Float[Tensor, "K 2"] | None = None,
        context: Context | None = None,
        silence_SA: Float[Tensor, "S A"] | None = None,
    ) -> None:
        """Build it with fresh weights from torch's random state.

        Args:
            recipe: its sizes and parts.
            image_dim: channels of an image embedding (512 for CLIP ViT-B/16).
            audio_dim: channels of an audio step (768 for AST).
            prototype_KE: unit text prototypes of the regions, in CLIP's joint space.
            centre_K2: the regions' centres, where the head asks for them.
            context: what prompts learn, where they do.
            silence_SA: the embedding of silence, to train with modality dropout; None: no sound is taken away.
        """
        super().__init__()
        self.recipe = recipe
        width = recipe.width
        self.image: nn.Module | None = None
        self.audio: nn.Module | None = None
        if "image" in recipe.modalities:
            self.image = nn.Sequential(Projection(image_dim, width), temporal_encoder(width, recipe.temporal))
        if "audio" in recipe.modalities:
            cnn = [AudioCNN()] if recipe.audio_encoder == "cnn" else []
            into = cnn[0].dim if cnn else audio_dim
            self.audio = nn.Sequential(*cnn, Projection(into, width), temporal_encoder(width, recipe.temporal))
        self.fusion = Fusion(width, recipe.fusion) if len(recipe.modalities) == 2 else None
        if recipe.head.kind == "expectation":
            if centre_K2 is None:
                raise ValueError("head.kind = 'expectation' needs the regions' centres")
            self.head: RegressionHead = ExpectationHead(width, recipe.head, centre_K2)
        else:
            self.head = RegressionHead(width, recipe.head)
        self.regions: nn.Module
        if recipe.prompt.words == "learned_context":
            if context is None:
                raise ValueError("prompt.words = 'learned_context' needs a context to start with")
            self.regions = ContextRegionHead(width, prototype_KE, recipe.prompt, context)
        elif recipe.prompt.semantic == "fused":
            self.regions = FusedRegionHead(width, prototype_KE, recipe.prompt)
        else:
            self.regions = ClipRegionHead(prototype_KE, recipe.prompt)
        self.silencing = WindowDropout(recipe.modality_dropout if silence_SA is not None else 0.0)
        self.silence_SA: Tensor | None
        self.register_buffer("silence_SA", silence_SA, persistent=False)

    def forward(
        self,
        image_BTI: Float[Tensor, "B T I"] | None,
        audio_USA: Float[Tensor, "U S A"] | None,
        clip_B: Int64[Tensor, "B"] | None = None,
    ) -> Estimate:
        """Return the estimate for each window.

        Args:
            image_BTI: the windows' pictures; may be None where the recipe leaves them out.
            audio_USA: their sounds; likewise.
            clip_B: which of the sounds each window hears, where several hear the same; None: each its own.
        """
        image_TBI = None if image_BTI is None or self.image is None else image_BTI.transpose(0, 1)
        audio_SUA = None if audio_USA is None or self.audio is None else audio_USA.transpose(0, 1)
        if audio_SUA is not None and self.silence_SA is not None:
            audio_SUA = self.silencing(audio_SUA, self.silence_SA[:, None])
        fused = self._fuse(
            None if self.image is None else self.image(image_TBI),
            None if self.audio is None else self.audio(audio_SUA),
            clip_B,
        )
        region_BK = self.regions(fused.sequence_TBD, image_TBI)
        return Estimate(
            self.head(fused.sequence_TBD, self._regions_of_head(region_BK, fused.sequence_TBD, image_TBI)),
            region_BK,
            None if fused.gate_TBD is None else fused.gate_TBD.transpose(0, 1),
            fused.attention_BHTS,
        )

    def _regions_of_head(self, region_BK: Tensor, fused_TBD: Tensor, image_TBI: Tensor | None) -> Tensor | None:
        if not self.head.uses_regions:
            return None
        return region_BK if self.head.over_time else self.regions(fused_TBD, image_TBI, steps=True)

    def _fuse(self, image_TBD: Tensor | None, audio_SUD: Tensor | None, clip_B: Tensor | None) -> Fused:
        if self.fusion is not None:
            fused: Fused = self.fusion(image_TBD, audio_SUD, clip_B)
            return fused
        alone_TBD = image_TBD
        if alone_TBD is None:
            assert audio_SUD is not None
            alone_TBD = audio_SUD if clip_B is None else audio_SUD.index_select(1, clip_B)
        return Fused(alone_TBD, None, None)
