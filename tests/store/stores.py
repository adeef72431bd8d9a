"""Small stores to test with."""

from pathlib import Path

import numpy as np

from vaprompt.store import FeatureStore

DATASET = {"name": "small", "layout": "affwild2", "faces": "crops"}
IMAGE = {"schema": 1, "model": "ViT-B-16-quickgelu", "log_mel": {"bins": 128}}


def filled(path: Path, videos: dict[str, str] | None = None, frames: int = 30, width: int = 8) -> FeatureStore:
    """Return a store with these videos (name and split), whole in all three streams."""
    store = FeatureStore.create(path, dataset=DATASET, recipe={"image_rate": "all"})
    for seed, (video, split) in enumerate((videos or {"video1": "train"}).items()):
        add(store, video, split, frames, seed, width)
    return store


def add(store: FeatureStore, video: str, split: str = "train", frames: int = 30, seed: int = 0, width: int = 8) -> None:
    chance = np.random.default_rng(seed)
    time_F = np.arange(frames) / 30
    with store.writer("image", video, IMAGE) as writer:
        writer.append(
            embedding=chance.normal(size=(frames, width)).astype(np.float16),
            frame=np.arange(1, frames + 1, dtype=np.int32),
            time=time_F,
        )
        counts = {"frames": frames, "encoded": frames, "seconds": float(time_F[-1])}
        writer.publish({"split": split, "counts": counts, "notes": []})
    with store.writer("audio", video, {"schema": 1}) as writer:
        writer.append(embedding=chance.normal(size=(2, 3, 4)).astype(np.float16), end=np.array([0.0, 1.0]))
        counts = {"windows": 2, "seconds": float(time_F[-1])}
        writer.publish({"split": split, "counts": counts, "notes": ["no audio stream: silence"]})
    with store.writer("labels", video, {"schema": 1}) as writer:
        valid_F = np.arange(frames) > 4
        writer.append(value=np.zeros((frames, 2), np.float32), valid=valid_F, time=time_F)
        counts = {"frames": frames, "valid": int(valid_F.sum()), "seconds": float(time_F[-1])}
        writer.publish({"split": split, "counts": counts, "notes": []})


def several(path: Path) -> FeatureStore:
    """Return a store with all that one can have: three splits, chunks of several rows, prompts, a failure."""
    store = filled(path, {"a": "train", "b": "validation", "c.d": "test"})
    with store.writer("image", "long", IMAGE) as writer:
        rows = np.random.default_rng(9).normal(size=(3000, 512)).astype(np.float16)
        writer.append(embedding=rows, frame=np.arange(1, 3001, dtype=np.int32), time=np.arange(3000) / 30)
        writer.publish({"split": "train", "notes": []})
    with store.writer("audio", "silent", {"schema": 1}) as writer:
        writer.append(embedding=np.zeros((0, 3, 4), np.float16), end=np.zeros(0))
        writer.publish({"split": "train", "notes": []})
    store.write_text({"calm": np.ones(4, np.float32), "angry": np.arange(4, dtype=np.float32)}, {"schema": 1})
    store.record_failure("broken", "has no pictures")
    with store.writing():
        store.write_index()
    return store


def add_named(path: Path, name: str, prompts: dict[str, np.ndarray], video: str = "video1") -> FeatureStore:
    """Add pictures of a video, and prompts, of another encoder under a name; return the store as seen under it."""
    image, text = {**IMAGE, "model": name}, {"schema": 1, "model": name}
    store = FeatureStore.create(path, recipe={}, stream=name, fingerprints={"image": image, "text": text})
    with store.writer("image", video, image) as writer:
        writer.append(embedding=np.ones((1, 6), np.float16), frame=np.ones(1, np.int32), time=np.zeros(1))
        writer.publish({"split": "train", "counts": {"frames": 30, "encoded": 1, "seconds": 1.0}, "notes": []})
    store.write_text(prompts, text)
    return store


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a store but its index, which tells of one copy only."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".index.json")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}
