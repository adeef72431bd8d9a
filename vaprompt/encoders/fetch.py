"""Downloading the weights of a recipe into a folder, for carrying to machines without a network.

The one place of the program that downloads anything.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from vaprompt.encoders.open_clip_facts import open_clip_config, published
from vaprompt.encoders.recipes import EMBEDDED, AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.weights import (
    AST_CONFIG,
    AST_FILE,
    AST_PREPROCESSOR,
    CLIP_CONFIG,
    CLIP_FILE,
    tag_source,
    tensor_digest,
)
from vaprompt.errors import TargetError, WeightsError
from vaprompt.progress import SILENT, Progress


def fetch(
    image: ImageEncoderRecipe, audio: AudioEncoderRecipe, to: Path, *, progress: Progress = SILENT
) -> dict[str, str]:
    """Download what a recipe's encoders need into `to/image` and `to/audio`, and return the overrides that use it.

    Returns:
        Keys and values for `--set`, such as `image.weights` and the folder; empty where nothing has to be fetched.

    Raises:
        WeightsError: there is no network, the hub has no such model, or only as a pickle.
        TargetError: the folder cannot be written.
    """
    overrides: dict[str, str] = {}
    # A tag is a tag even where a folder happens to have its name, as in extraction.
    config = published(image.model, image.weights)
    if config is not None or _is_remote(image.weights):
        repository, name = tag_source(image)
        assert config is not None
        preprocess = {key: config[key] for key in ("mean", "std", "interpolation", "resize_mode")}
        folder = _folder(to / "image")
        with progress.task(f"fetching {repository}"):
            _download(repository, name, folder / CLIP_FILE)
            # What the weights were trained with, which need not be what the model is built with (image.activation).
            trained = {"quick_gelu": True} if config.get("quick_gelu", False) else {}
            content = {"model_cfg": open_clip_config(image.model) | trained, "preprocess_cfg": preprocess}
            (folder / CLIP_CONFIG).write_text(json.dumps(content, indent=1), encoding="utf-8")
            tensor_digest(folder / CLIP_FILE)
        overrides["image.weights"] = str(folder)
    if audio.kind == "ast" and _is_remote(audio.weights):
        folder = _folder(to / "audio")
        with progress.task(f"fetching {audio.weights}"):
            for name in (AST_CONFIG, AST_PREPROCESSOR, AST_FILE):
                _download(audio.weights, name, folder / name)
            tensor_digest(folder / AST_FILE)
        overrides["audio.weights"] = str(folder)
    return overrides


def _is_remote(weights: str) -> bool:
    return weights != EMBEDDED and not weights.startswith("random:") and not Path(weights).exists()


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(
            folder, fault=f"cannot be written ({error.strerror})", remedy="choose another folder"
        ) from None
    return folder


def _download(repository: str, name: str, target: Path) -> None:
    """Bring one file of a repository to its place, under its own name only once it is whole."""
    aside = target.with_name(f".{target.name}.part")
    try:
        with _quietly():
            shutil.copyfile(hf_hub_download(repository, name), aside)
        aside.replace(target)
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, ConnectionError) as error:
        raise WeightsError(
            f"{repository}/{name}",
            fault=f"cannot be downloaded ({_reason(error)})",
            remedy="check the network, or HF_ENDPOINT if you use a mirror; pickles are never fetched",
        ) from None
    except OSError as error:
        raise TargetError(target, fault=f"cannot be written ({error.strerror or error})", remedy="make room") from None
    finally:
        with suppress(OSError):  # see `vaprompt.files.published`
            aside.unlink(missing_ok=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the hub's library from telling of each of its tries: what comes of them is told in one line."""
    library = logging.getLogger("huggingface_hub")
    before = library.level
    library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.setLevel(before)


def _reason(error: Exception) -> str:
    """Return why a download failed: what lies beneath, where the hub's library says only that it has no file."""
    reason: BaseException = error
    if isinstance(error, LocalEntryNotFoundError):
        while reason.__cause__ is not None:
            reason = reason.__cause__
    return (str(reason) or type(reason).__name__).splitlines()[0]
