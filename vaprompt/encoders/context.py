"""CLIP's text tower behind prompts whose first words are vectors that learn (CoOp, Zhou et al. 2022).

A prompt is `[start] [v1] ... [vM] phrase [end]`. The vectors are the same for all phrases; the tower is frozen, and
passes gradients on to them.

Axes: M context vectors, K phrases, L tokens, D channels of a token, E CLIP's joint space.
"""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vaprompt.encoders.clip import load_network, tokenizer
from vaprompt.encoders.recipes import ImageEncoderRecipe
from vaprompt.encoders.weights import image_weights
from vaprompt.errors import RecipeError


class ContextTower:
    """Embeds the same phrases again and again, behind a context that changes."""

    def __init__(self, recipe: ImageEncoderRecipe, phrases: Sequence[str], words: str, device: str = "cpu") -> None:
        """Load the text tower of the CLIP that the recipe names, in single precision.

        Args:
            recipe: which CLIP.
            phrases: what stands behind the context.
            words: what the context is to start as.
            device: where to compute.

        Raises:
            WeightsError: the weights are not at hand, or do not belong to the model.
            RecipeError: its text tower is not CLIP's own, or the words leave no room for phrases.
        """
        exact = recipe.model_copy(update={"precision": "fp32"})
        network = load_network(exact, image_weights(exact), torch.device("cpu")).eval().requires_grad_(False)
        if type(network) is not open_clip.CLIP or network.text_pool_type != "argmax" or network.attn_mask is None:
            raise RecipeError(
                f"image.model = {recipe.model}",
                fault="has a text tower of another kind than CLIP's own, in which no context is learned",
                remedy='set model.prompt.words = "templates", or take features of another CLIP',
            )
        network.visual = torch.nn.Identity()
        tokenize = tokenizer(exact)
        # Both ends of the words alone are [start] and [end].
        ahead = f"{words.strip()} "
        self._count = int(tokenize([ahead])[0].argmax()) - 1
        token_KL = tokenize([ahead + phrase for phrase in phrases])
        end_K = token_KL.argmax(dim=1)
        if not words.strip() or int(end_K.min()) <= self._count + 1:
            raise RecipeError(
                f"model.prompt.context = {words}",
                fault=f"leaves no room for phrases, or is none: prompts have {network.context_length} tokens",
                remedy="take a few words, such as 'a photo of a person who looks'",
            )
        # Attention looks back only, so that nothing behind the last end matters.
        length = int(end_K.max()) + 1
        self._network, self._end_K = network.to(device), end_K.to(device)
        self._token_KLD = network.token_embedding(token_KL[:, :length].to(device))
        self.start_MD: Float[Tensor, "M D"] = self._token_KLD[0, 1 : 1 + self._count].clone()
        """The words' own token embeddings."""

    def __call__(self, context_MD: Float[Tensor, "M D"]) -> Float[Tensor, "K E"]:
        """Return each phrase's embedding behind a context, of unit length."""
        network, token_KLD = self._network, self._token_KLD
        phrases, length, _ = token_KLD.shape
        context_KMD = context_MD.expand(phrases, -1, -1)
        token_KLD = torch.cat((token_KLD[:, :1], context_KMD, token_KLD[:, 1 + self._count :]), dim=1)
        token_KLD = token_KLD + network.positional_embedding[:length]
        token_KLD = network.ln_final(network.transformer(token_KLD, attn_mask=network.attn_mask[:length, :length]))
        end_KD = token_KLD[torch.arange(phrases, device=token_KLD.device), self._end_K]
        projection = network.text_projection
        if projection is not None:
            end_KD = projection(end_KD) if isinstance(projection, torch.nn.Linear) else end_KD @ projection
        return F.normalize(end_KD, dim=-1)
