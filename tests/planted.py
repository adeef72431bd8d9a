"""A feature store with a signal planted in random numbers, so that training can be tested without any encoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaprompt.encoders.clip_form import text_fingerprint
from vaprompt.encoders.recipes import ImageEncoderRecipe
from vaprompt.regions import PHRASES, TEMPLATES
from vaprompt.store import FeatureStore
from vaprompt.store.layout import read_attributes, write_attributes
from vaprompt.store.storage import Folder

IMAGE, AUDIO, STEPS = 24, 18, 6
HOP, WINDOW = 1.0, 4.0
FINGERPRINTS = {
    "image": {"encoder": "planted", "dim": IMAGE},
    "audio": {"encoder": "planted", "dim": AUDIO, "hop": HOP, "window": WINDOW},
    "labels": {"rows": "frames"},
}


def refingerprint(store: Path, stream: str, **changes: object) -> None:
    """Let a stream of a store seem to be made otherwise."""
    attributes = read_attributes(Folder(store), stream)
    write_attributes(store / stream, {**attributes, "fingerprint": {**attributes["fingerprint"], **changes}})


def source_of(store: Path, stream: str, **files: object) -> None:
    """Let a stream of a store's first video seem to be made of other files."""
    group = min(path for path in (store / stream).iterdir() if path.is_dir())
    attributes = read_attributes(Folder(store), f"{stream}/{group.name}")
    write_attributes(group, attributes | {"source": files})


def plant_store(
    path: Path,
    *,
    train: int = 6,
    validation: int = 2,
    test: int = 0,
    seconds: float = 30.0,
    rate: float = 10.0,
    noise: float = 0.5,
    seed: int = 0,
    valid: bool = True,
    clip: ImageEncoderRecipe | None = None,
    phrases: Sequence[str] = PHRASES,
    picture: tuple[int, int] | None = None,
) -> Path:
    """Write a store whose image embeddings and sound follow valence and arousal, with noise.

    Its prompts are random numbers, or `clip`'s, which it then says to be made with. Its sound is embeddings, or a
    `picture` of so many steps and bins, for the CNN: stripes along the bins, coarse and fine ones, of these strengths.
    """
    generator = np.random.default_rng(seed)
    image_mix, audio_mix = generator.normal(size=(2, IMAGE)), generator.normal(size=(2, AUDIO))
    steps, weakest = STEPS, 0.0
    if picture is not None:
        steps, weakest = picture[0], 1.0
        audio_mix = np.cos(2 * np.pi * np.arange(picture[1]) / np.array([[16], [4]]))
    channels = audio_mix.shape[1]
    fingerprints = FINGERPRINTS | {"audio": FINGERPRINTS["audio"] | {"dim": channels}}
    recipe = {} if clip is None else {"image": clip.model_dump(mode="json")}
    store = FeatureStore.create(path, dataset={"name": "planted", "layout": "none", "faces": "crops"}, recipe=recipe)
    splits = ["train"] * train + ["validation"] * validation + ["test"] * test
    for number, split in enumerate(splits):
        name = f"video{number}"
        time_F = np.arange(int(seconds * rate)) / rate
        phase = generator.uniform(0, 2 * np.pi, (2, 2))
        period = generator.uniform(6, 12, (2, 2))
        angle = 2 * np.pi * time_F[:, None, None] / period + phase
        value_F2 = np.sin(angle).mean(axis=2).astype(np.float32)
        valid_F = np.ones(len(time_F), bool)
        value_F2[:5], valid_F[:5] = -5, False
        value_F2[60:70], valid_F[60:70] = -5, False
        if split == "test" or not valid:
            value_F2[:], valid_F[:] = -5, False
        clean_F2 = np.sin(angle).mean(axis=2)
        kept = np.flatnonzero(generator.random(len(time_F)) > 0.1)
        image_ND = clean_F2[kept] @ image_mix + noise * generator.normal(size=(len(kept), IMAGE))
        first = WINDOW + HOP * np.floor(-WINDOW / HOP)
        end_W = np.arange(first, time_F[-1] + 1e-9, HOP)
        back_WS = end_W[:, None] - np.linspace(WINDOW, 0, steps)
        heard_WS2 = np.stack([np.interp(back_WS, time_F, clean_F2[:, axis]) for axis in (0, 1)], axis=2)
        audio_WSD = (weakest + heard_WS2) @ audio_mix + noise * generator.normal(size=(len(end_W), steps, channels))
        audio_WSD[end_W <= 0] = 0.5  # before any sound there is silence
        streams = {
            "image": {
                "embedding": image_ND.astype(np.float16),
                "frame": (kept + 1).astype(np.int32),
                "time": time_F[kept],
            },
            "audio": {"embedding": audio_WSD.astype(np.float16), "end": end_W},
            "labels": {"value": value_F2, "valid": valid_F, "time": time_F},
        }
        for stream, arrays in streams.items():
            with store.writer(stream, name, fingerprints[stream]) as writer:
                writer.append(**arrays)
                counts = {"frames": len(time_F), "valid": int(valid_F.sum()), "seconds": float(time_F[-1])}
                writer.publish({"split": split, "counts": counts, "notes": []})
    texts = [template.format(phrase) for phrase in phrases for template in TEMPLATES]
    rows = generator.normal(size=(len(texts), IMAGE)).astype(np.float32)
    made_by = {"encoder": "planted"}
    if clip is not None:
        from vaprompt.encoders.registry import image_encoder

        rows, made_by = image_encoder(clip).encode_text(texts).numpy(), text_fingerprint(clip)
    store.write_text(dict(zip(texts, rows, strict=True)), made_by)
    return path
