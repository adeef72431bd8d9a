"""Table 1's weaker audio encoder: a small CNN on the log-Mel spectrogram, trained with the heads.

The paper does not give its layers; these are ours. It stands with the model, not with the frozen encoders,
because it learns: the store then holds log-Mel frames instead of embeddings.

Axes: B windows in the batch, S log-Mel frames, M mel bins, C channels.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class AudioCNN(nn.Module):
    """Four strided convolutions; time is reduced 16 times, the mel axis is averaged away."""

    CHANNELS = (16, 32, 64, 128)

    def __init__(self) -> None:
        """Build it; it takes any number of frames and bins from 16 up."""
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for channels in self.CHANNELS:
            layers += [
                nn.Conv2d(before, channels, kernel_size=3, stride=2, padding=1, bias=False),
                nn.GroupNorm(8, channels),
                nn.ReLU(),
            ]
            before = channels
        self.layers = nn.Sequential(*layers)
        self.dim = before

    def forward(self, mel_SBM: Float[Tensor, "S B M"]) -> Float[Tensor, "S16 B C"]:
        """Return a sequence with one step for 16 frames."""
        map_BCSM: Tensor = self.layers(mel_SBM.transpose(0, 1).unsqueeze(1))
        return map_BCSM.mean(dim=3).permute(2, 0, 1)
