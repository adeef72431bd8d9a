"""What `train.py` compares training on cached features with: windows out of HDF5 through a loader, and re-encoding.

The heads are out of torch's own modules, as one would write them.

Axes: B windows in the batch, T image steps, S audio steps, I, A and D channels, E CLIP's joint space, K regions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import ASTConfig, ASTModel

from vaprompt import FeatureStore
from vaprompt.regions import soft_labels
from vaprompt.training.losses import ccc_loss, region_loss
from vaprompt.training.recipe import TrainRecipe
from vaprompt.windows import cut_windows

VIDEOS = 30
"""Whose features are written to HDF5."""


class Plain(nn.Module):
    """The same heads out of torch's modules, as one would write them."""

    def __init__(self, prototype_KE: Tensor) -> None:
        """Build them with the paper's sizes."""
        super().__init__()
        self.image, self.audio = nn.Linear(512, 256), nn.Linear(768, 256)
        self.image_gru, self.audio_gru = (nn.GRU(256, 256, bidirectional=True, batch_first=True) for _ in range(2))
        self.image_out, self.audio_out = nn.Linear(512, 256), nn.Linear(512, 256)
        self.attention = nn.MultiheadAttention(256, 4, dropout=0.1, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(256) for _ in range(2))
        self.feedforward = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Dropout(0.1), nn.Linear(1024, 256))
        self.gate = nn.Linear(512, 256)
        self.head = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 2))
        self.project = nn.Linear(256, prototype_KE.shape[1])
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.register_buffer("prototype_KE", prototype_KE)

    def forward(self, image_BTI: Tensor, audio_BSA: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and region logits."""
        image_BTD = self.image_out(self.image_gru(self.image(image_BTI))[0])
        audio_BSD = self.audio_out(self.audio_gru(self.audio(audio_BSA))[0])
        heard_BTD = self.attention(image_BTD, audio_BSD, audio_BSD, need_weights=False)[0]
        attended_BTD = self.norms[0](image_BTD + F.dropout(heard_BTD, 0.1, self.training))
        fed_BTD = F.dropout(self.feedforward(attended_BTD), 0.1, self.training)
        attended_BTD = self.norms[1](attended_BTD + fed_BTD)
        gate_BTD = self.gate(torch.cat((attended_BTD, image_BTD), -1)).sigmoid()
        fused_BD = (gate_BTD * attended_BTD + (1 - gate_BTD) * image_BTD).mean(1)
        semantic_BE = F.normalize(self.project(fused_BD), dim=-1)
        return self.head(fused_BD), self.scale.exp() * semantic_BE @ self.prototype_KE.T


def plain_step(device: torch.device) -> Callable[[Tensor, Tensor, Tensor, Tensor], float]:
    """Return a plain training step on a batch of features."""
    network = Plain(F.normalize(torch.randn(9, 512), dim=-1)).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-4)

    def step(image_BTI: Tensor, audio_BSA: Tensor, value_B2: Tensor, soft_BK: Tensor) -> float:
        value, region_BK = network(image_BTI, audio_BSA)
        loss = ccc_loss(value, value_B2) + 0.2 * region_loss(region_BK, soft_BK)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


class OneByOne(Dataset[tuple[Tensor, ...]]):
    """Windows of features in an HDF5 file, read one at a time."""

    def __init__(self, path: Path, items: list[tuple[str, np.ndarray, int]], recipe: TrainRecipe) -> None:
        """Name each window's video, rows of pictures and row of sound."""
        self.path, self.items, self.file = path, items, None
        self.centres, self.sigma = recipe.regions.centres_K2(), recipe.regions.sigma

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Read a window."""
        if self.file is None:  # each worker opens its own
            self.file = h5py.File(self.path)
        name, image_T, audio_row = self.items[index]
        group = self.file[name]
        value_2 = group["value"][image_T[-1]]
        soft_K = soft_labels(value_2[None], self.centres, self.sigma)[0].astype(np.float32)
        unlike, where = np.unique(image_T, return_inverse=True)
        arrays = group["image"][unlike][where], group["audio"][audio_row]
        return (
            *(torch.from_numpy(array.astype(np.float32)) for array in arrays),
            *map(torch.from_numpy, (value_2, soft_K)),
        )


def cached_ms(
    store: Path, recipe: TrainRecipe, path: Path, device: torch.device, batches: Sequence[int], seconds: float
) -> dict[str, float]:
    """Return milliseconds a window of the usual cached way over sizes of batch, each measured for some seconds."""
    dataset, found = written(store, recipe, path), {}
    for batch in batches:
        for workers in (2, 0):
            loader = DataLoader(
                dataset, batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
            )
            step, every = plain_step(device), endless(loader)
            for _ in range(3):
                step(*(part.to(device) for part in next(every)))
            start, done = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                step(*(part.to(device) for part in next(every)))
                done += batch
            found[f"batch {batch}, {workers} workers"] = round(1e3 * (time.perf_counter() - start) / done, 3)
            del every, loader
    return found


def endless(loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def written(store: Path, recipe: TrainRecipe, path: Path) -> OneByOne:
    """Return windows of some of a store's videos, whose features are written to an HDF5 file."""
    opened, items, window = FeatureStore.open(store), [], recipe.window
    with h5py.File(path, "w") as file:
        for name in opened.videos("train")[:VIDEOS]:
            image, audio, labels = opened.image(name), opened.audio(name), opened.labels(name)
            file[f"{name}/image"], file[f"{name}/audio"] = image.embedding_ND, audio.embedding_WSD
            file[f"{name}/value"] = labels.value_F2[image.frame_N - 1].clip(-1, 1)
            ends = np.arange(window.seconds, labels.time_F[-1], window.stride)
            cut = cut_windows(
                ends,
                time_F=labels.time_F,
                image_time_N=image.time_N,
                audio_end_A=audio.end_W,
                seconds=window.seconds,
                frames=window.frames,
            )
            items += [(name, image_T, int(row)) for image_T, row in zip(cut.image_WT, cut.audio_W, strict=True)]
    return OneByOne(path, items, recipe)


def reencoding_s(device: torch.device, batches: Sequence[int]) -> dict[str, float]:
    """Return seconds a window of a step that encodes 20 pictures and a sound for each, over sizes of batch.

    Pictures and spectrograms are ready in memory: decoding and resizing are left out.
    """
    clip = open_clip.create_model("ViT-B-16", pretrained=None).to(device).eval().requires_grad_(False)
    ast = ASTModel(ASTConfig()).to(device).eval().requires_grad_(False)
    found, step = {}, plain_step(device)

    def whole(batch: int) -> None:
        picture_NCHW = torch.randn(batch * 20, 3, 224, 224, device=device)
        sound_BFM = torch.randn(batch, 1024, 128, device=device)
        with torch.no_grad():
            image_BTI = clip.encode_image(picture_NCHW).view(batch, 20, 512)
            hidden_BPD = ast(sound_BFM).last_hidden_state
            # Twelve patches of frequency are averaged, which leaves 101 steps of time.
            audio_BSA = hidden_BPD[:, 2:].view(batch, 12, 101, 768).mean(1)
        step(image_BTI, audio_BSA, torch.rand(batch, 2, device=device), torch.rand(batch, 9, device=device).softmax(-1))

    for batch in batches:
        if device.type != "cpu":
            whole(batch)
            torch.cuda.synchronize()
        start = time.perf_counter()
        whole(batch)
        if device.type != "cpu":
            torch.cuda.synchronize()
        found[f"batch {batch}"] = round((time.perf_counter() - start) / batch, 4)
    return found
