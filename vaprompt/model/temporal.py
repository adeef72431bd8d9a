"""What turns a sequence of frozen embeddings into a sequence that knows its past (and, within the window, its future).

Axes: B windows in the batch, T steps, D channels.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vaprompt.recipes import Recipe


class TemporalRecipe(Recipe):
    """The encoder that each modality's sequence goes through."""

    kind: Literal["gru", "tcn"] = "gru"
    """Table 2's two kinds; the GRU is the paper's."""
    layers: int = Field(1, ge=1, le=8)
    """Layers of the bidirectional GRU."""
    units: int = Field(256, ge=1, le=4096)
    """GRU units in each direction."""
    levels: int = Field(2, ge=1, le=10)
    """Levels of the TCN; level i has dilation 2^i."""
    kernel: int = Field(3, ge=2, le=31)
    """Kernel of the TCN's convolutions, in steps."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout inside the TCN, and between layers of a GRU with more than one."""


class GRUEncoder(nn.Module):
    """Bidirectional GRU, then back to the model's width (paper, equation 1)."""

    def __init__(self, width: int, recipe: TemporalRecipe) -> None:
        """Build it for sequences of `width` channels."""
        super().__init__()
        dropout = recipe.dropout if recipe.layers > 1 else 0.0
        self.gru = nn.GRU(width, recipe.units, recipe.layers, batch_first=True, bidirectional=True, dropout=dropout)
        self.out = nn.Linear(2 * recipe.units, width)

    def forward(self, sequence_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Return the encoded sequence, of the same shape."""
        encoded_BTD: Tensor = self.out(self.gru(sequence_BTD)[0])
        return encoded_BTD


class CausalBlock(nn.Module):
    """Two dilated causal convolutions with a residual connection (Bai et al. 2018)."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.padding = (kernel - 1) * dilation
        self.first = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.second = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence_BDT: Float[Tensor, "B D T"]) -> Float[Tensor, "B D T"]:
        """Return the convolved sequence plus its input; step t sees no step after t."""
        hidden_BDT = sequence_BDT
        for convolution in (self.first, self.second):
            hidden_BDT = self.dropout(convolution(F.pad(hidden_BDT, (self.padding, 0))).relu())
        return (hidden_BDT + sequence_BDT).relu()


class TCNEncoder(nn.Module):
    """Temporal convolutional network: causal blocks with dilation 1, 2, 4, ... (Table 2's alternative)."""

    def __init__(self, width: int, recipe: TemporalRecipe) -> None:
        """Build it for sequences of `width` channels."""
        super().__init__()
        blocks = (CausalBlock(width, recipe.kernel, 2**level, recipe.dropout) for level in range(recipe.levels))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, sequence_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Return the encoded sequence, of the same shape."""
        encoded_BDT: Tensor = self.blocks(sequence_BTD.transpose(1, 2))
        return encoded_BDT.transpose(1, 2)


def temporal_encoder(width: int, recipe: TemporalRecipe) -> nn.Module:
    """Return the encoder that the recipe names, for sequences of `width` channels."""
    return GRUEncoder(width, recipe) if recipe.kind == "gru" else TCNEncoder(width, recipe)
