"""The valence-arousal plane as a grid of regions, and how much a point belongs to each (paper, section 3.3).

Axes: N points, K regions, valence-major: index = columns x valence row + arousal column, from low to high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from vaprompt.errors import StoreError
from vaprompt.recipes import Recipe, Texts

TEMPLATES: tuple[str, ...] = (
    "a photo of a person who looks {}",
    "a face showing {}",
    "a facial expression of {}",
)
"""The paper's three prompt templates (section 3.3)."""

PHRASES: tuple[str, ...] = (
    "sad, tired, and low-energy",
    "displeased and uncomfortable",
    "angry, tense, and highly aroused",
    "calm, expressionless, and low-energy",
    "neutral and emotionally ordinary",
    "alert, attentive, and emotionally neutral",
    "relaxed, content, and pleasant",
    "happy and pleasant",
    "excited, joyful, and energetic",
)
"""One phrase a region, valence-major; facts of the authors' released training code."""

CENTRES: tuple[float, ...] = (-0.66, 0.0, 0.66)
"""The paper's localised grid, the same on both axes (Table 3)."""


class RegionRecipe(Recipe):
    """The grid of emotional regions and what each is called."""

    valence: tuple[float, ...] = Field(CENTRES, min_length=1, max_length=9)
    """Centres on the valence axis, ascending, in [-1, 1]."""
    arousal: tuple[float, ...] = Field(CENTRES, min_length=1, max_length=9)
    """Centres on the arousal axis, ascending, in [-1, 1]."""
    sigma: float = Field(0.45, gt=0, le=10)
    """Width of the Gaussian that turns distance into belonging (paper: 0.45; Table 3's comparator: 0.60)."""
    phrases: Texts = PHRASES
    """One phrase a region, valence-major; or the name of a file that has one a line."""
    templates: tuple[str, ...] = Field(TEMPLATES, min_length=1)
    """Sentences with `{}` where the phrase goes; a prototype is the mean over them."""

    @model_validator(mode="after")
    def _consistent(self) -> RegionRecipe:
        for axis in (self.valence, self.arousal):
            if list(axis) != sorted(set(axis)) or axis[0] < -1 or axis[-1] > 1:
                raise ValueError(f"centres must ascend within [-1, 1], not {list(axis)}")
        if len(self.phrases) != len(self.valence) * len(self.arousal):
            raise ValueError(
                f"{len(self.valence)} x {len(self.arousal)} regions need as many phrases, not {len(self.phrases)}"
            )
        if not all("{}" in template for template in self.templates):
            raise ValueError("each template must hold {} where the phrase goes")
        return self

    def centres_K2(self) -> Float[np.ndarray, "K 2"]:
        """Return each region's centre as (valence, arousal), valence-major."""
        return np.array([(v, a) for v in self.valence for a in self.arousal], np.float64)

    def prompts(self) -> list[str]:
        """Return every sentence, each phrase in each template, region by region."""
        return [template.replace("{}", phrase) for phrase in self.phrases for template in self.templates]


def soft_labels(
    value_N2: Float[np.ndarray, "N 2"],
    centres_K2: Float[np.ndarray, "K 2"] | None = None,
    sigma: float = 0.45,
) -> Float[np.ndarray, "N K"]:
    """Return how much each point belongs to each region: a Gaussian of its distance, normalised (paper, equation 2).

    p_k = exp(-|y - c_k|^2 / (2 sigma^2)) / sum_j exp(-|y - c_j|^2 / (2 sigma^2))

    Args:
        value_N2: valence and arousal.
        centres_K2: the regions' centres; the paper's nine by default.
        sigma: width of the Gaussian, in units of the plane.
    """
    centres_K2 = RegionRecipe().centres_K2() if centres_K2 is None else centres_K2
    distance2_NK = np.square(value_N2[:, None].astype(np.float64) - centres_K2[None]).sum(axis=-1)
    logit_NK = -distance2_NK / (2 * sigma**2)
    # The nearest region's term becomes exp(0), so that no row can underflow to 0/0 with a small sigma.
    soft_NK: Float[np.ndarray, "N K"] = np.exp(logit_NK - logit_NK.max(axis=1, keepdims=True))
    soft_NK /= soft_NK.sum(axis=1, keepdims=True)
    return soft_NK


def prototypes(
    embeddings: Mapping[str, Float[np.ndarray, "D"]], phrases: Sequence[str], templates: Sequence[str]
) -> Float[np.ndarray, "K D"]:
    """Return one unit vector a region: the normalised mean of its prompts' normalised text embeddings.

    Args:
        embeddings: a text embedding for each prompt (phrase in template), as `FeatureStore.text()` gives them.
        phrases: one a region.
        templates: sentences with `{}`.

    Raises:
        StoreError: a prompt has no embedding.
    """
    rows = []
    for phrase in phrases:
        prompts = [template.replace("{}", phrase) for template in templates]
        missing = [prompt for prompt in prompts if prompt not in embeddings]
        if missing:
            raise StoreError(
                None,
                fault=f"holds no text embedding of '{missing[0]}' ({len(embeddings)} others are there)",
                remedy="list the phrase in the extraction recipe's prompts and extract again, or use phrases it holds",
            )
        rows.append(_unit(np.mean([_unit(embeddings[prompt].astype(np.float64)) for prompt in prompts], axis=0)))
    return np.stack(rows).astype(np.float32)


def _unit(vector_D: Float[np.ndarray, "D"]) -> Float[np.ndarray, "D"]:
    unit_D: Float[np.ndarray, "D"] = np.divide(vector_D, np.linalg.norm(vector_D))
    return unit_D
