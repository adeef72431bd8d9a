"""Where an encoder's weights are, and which they are: resolved without a network, read as safetensors alone.

Weights are named in a recipe as one of
- a tag of open_clip, or a repository of the Hugging Face hub, that lies in the local cache;
- a folder or a `.safetensors` file, such as `fetch` writes;
- `random:SEED`, numbers drawn from that seed, for machines without weights;
- `embedded`, the miniatures inside the package.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from pydantic import ValidationError

from vaprompt.caching import remembered
from vaprompt.encoders.open_clip_facts import WrittenConfig, differences, open_clip_config, published, tags
from vaprompt.encoders.recipes import EMBEDDED, AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.errors import RecipeError, VapromptError, WeightsError
from vaprompt.files import parsed_json

CLIP_FILE, CLIP_CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
"""The names under which open_clip itself keeps a model in a folder."""
AST_FILE, AST_CONFIG, AST_PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
"""The names under which transformers keeps a model in a folder."""
AST_PREFIX = "audio_spectrogram_transformer."
"""In front of the encoder's tensors in files that were saved with a classifier."""

LARGEST_HEADER = 100 * 2**20
QUICKLY_READ = 2**24
"""Bytes of a file that is read again rather than remembered."""


@dataclass(frozen=True)
class Weights:
    """Weights that are at hand."""

    digest: str
    """`sha256:...` of the tensors' names, types, shapes and bytes, whatever file they lie in; or `random:SEED`."""
    file: Path | None
    """The safetensors file; None for random weights."""
    seed: int | None
    """The seed of random weights; None where there is a file."""
    config: Mapping[str, Any] | None = None
    """What a config file beside the weights says of the architecture; None where there is none."""
    preprocessor: Mapping[str, Any] | None = None
    """What a file beside the weights says of the preparation of input; None where there is none."""


@dataclass(frozen=True)
class Availability:
    """Whether one encoder of a recipe could be loaded here."""

    stream: str
    """`image` or `audio`."""
    model: str
    weights: str
    """As the recipe names them."""
    where: str | None
    """The file, or what else the weights are; None where they are missing."""
    fault: str | None
    """Why they cannot be used, and what to do; None where they can."""


def available(image: ImageEncoderRecipe, audio: AudioEncoderRecipe) -> list[Availability]:
    """Return for each encoder whether its weights are at hand; loads nothing and needs no network."""
    found = []
    for stream, recipe in (("image", image), ("audio", audio)):
        where: str | None = None
        fault: str | None = None
        try:
            if isinstance(recipe, ImageEncoderRecipe):
                where = str(_image_source(recipe)[0] or recipe.weights)
            elif recipe.kind == "logmel":
                where = "none needed"
            else:
                where = str(_audio_source(recipe)[0] or recipe.weights)
        except VapromptError as error:
            fault = str(error)
        found.append(Availability(stream, recipe.model, recipe.weights, where, fault))
    return found


def image_weights(recipe: ImageEncoderRecipe) -> Weights:
    """Find the weights of an image encoder.

    Raises:
        WeightsError: they are not at hand, are a pickle, were trained with the other GELU than the model has or in
            another architecture, or the file beside them says what no model has.
        RecipeError: open_clip has no such model.
    """
    file, folder = _image_source(recipe)
    if file is None:
        return Weights(recipe.weights, None, _seed(recipe.weights))
    config = _json(folder / CLIP_CONFIG) if folder else None
    if folder and config is not None:
        try:
            WrittenConfig.model_validate(config)
        except ValidationError as error:
            raise senseless(folder / CLIP_CONFIG, error) from None
        _require_same_gelu(recipe, config.get("model_cfg", {}).get("quick_gelu", False), where=file)
        _require_same_architecture(recipe, config.get("model_cfg", {}), where=folder / CLIP_CONFIG)
    preprocessor = config.get("preprocess_cfg") if config is not None else _tag_config(recipe)
    return Weights(_digest(file), file, None, config, preprocessor)


def audio_weights(recipe: AudioEncoderRecipe) -> Weights:
    """Find the weights of an AST.

    Raises:
        WeightsError: they are not at hand, or not an AST's.
        RecipeError: random weights are asked for an architecture that is not known here.
    """
    file, folder = _audio_source(recipe)
    if file is None:
        return Weights(recipe.weights, None, _seed(recipe.weights))
    config = _json(folder / AST_CONFIG) if folder else None
    if folder and config is None:
        raise WeightsError(folder / AST_CONFIG, fault="is missing", remedy="give the whole folder of the AST")
    preprocessor = _json(folder / AST_PREPROCESSOR) if folder else None
    return Weights(_digest(file), file, None, config, preprocessor)


def senseless(file: Path, error: ValidationError) -> WeightsError:
    """Return the error for a file beside weights that says what cannot be."""
    return WeightsError(file, fault=f"makes no sense ({complaint(error)})", remedy="correct it or fetch it again")


def complaint(error: ValidationError) -> str:
    """Return the first of pydantic's complaints: the field, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def tensor_digest(file: Path) -> str:
    """Return the SHA-256 of a safetensors file's tensors by name, so that the same weights in another file agree.

    A classifier on top of an AST is left out, as it is not part of the encoder.

    Raises:
        WeightsError: the file is not in safetensors format.
    """
    digest = hashlib.sha256()
    try:
        with file.open("rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            if length > LARGEST_HEADER:
                raise ValueError("its header is too long")
            tensors = parsed_json(source.read(length))
            tensors.pop("__metadata__", None)
            names = {name.removeprefix(AST_PREFIX): name for name in tensors if not name.startswith("classifier.")}
            for short in sorted(names):
                facts = tensors[names[short]]
                begin, end = facts["data_offsets"]
                digest.update(json.dumps([short, facts["dtype"], facts["shape"]]).encode())
                source.seek(8 + length + begin)
                while begin < end:
                    piece = source.read(min(end - begin, 2**22))
                    if not piece:
                        raise ValueError("it is cut short")
                    digest.update(piece)
                    begin += len(piece)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            file, fault=f"is not a safetensors file ({error})", remedy="fetch the weights again"
        ) from None
    except OSError as error:
        raise WeightsError(
            file, fault=f"cannot be read ({error.strerror})", remedy="check the path and rights"
        ) from None
    return f"sha256:{digest.hexdigest()}"


@contextmanager
def offline() -> Iterator[None]:
    """Keep the hub's libraries from the network: loading an encoder never downloads anything."""
    from huggingface_hub import constants  # half of its time of importing, and trainings do without

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def tag_source(recipe: ImageEncoderRecipe) -> tuple[str, str]:
    """Return the hub's repository and the name of the safetensors file of a tag of open_clip.

    Raises:
        WeightsError: the tag is unknown, its weights are published as a pickle only, or fit the other GELU.
    """
    config = _tag_config(recipe)
    if config is None:
        known = ", ".join(tags(recipe.model)) or "none"
        raise WeightsError(
            f"image.weights = {recipe.weights}",
            fault=f"is neither a file here nor a tag that open_clip knows for {recipe.model}",
            remedy=f"its tags are: {known}",
        )
    _require_same_gelu(recipe, config.get("quick_gelu", False), where=f"image.weights = {recipe.weights}")
    repository, _, name = str(config.get("hf_hub", "")).rpartition("/")
    if not repository:
        raise WeightsError(
            f"image.weights = {recipe.weights}",
            fault=f"is published as a pickle only ({config.get('url')}), which is never loaded",
            remedy="choose a tag that is on the Hugging Face hub",
        )
    return repository, f"{Path(name).stem}.safetensors" if name else CLIP_FILE


def _digest(file: Path) -> str:
    """Return a file's `tensor_digest`; of a large one remembered while size, place and times stay the same."""
    try:
        state = file.stat()
    except OSError:
        return tensor_digest(file)  # which says what is wrong
    if state.st_size < QUICKLY_READ:
        return tensor_digest(file)
    about = {"what": "tensor_digest", "file": str(file.resolve()), "bytes": state.st_size, "inode": state.st_ino}
    times = {"mtime_ns": state.st_mtime_ns, "ctime_ns": state.st_ctime_ns}
    return str(remembered(about | times, lambda: tensor_digest(file)))


def _image_source(recipe: ImageEncoderRecipe) -> tuple[Path | None, Path | None]:
    """Return the file of an image encoder's weights (None: random), and the folder to look for its config in."""
    if recipe.weights == EMBEDDED:
        from vaprompt.encoders import embedded

        return embedded.CLIP_WEIGHTS, None
    if recipe.model != EMBEDDED:
        open_clip_config(recipe.model)
    if _is_random(recipe.weights):
        return None, None
    if _tag_config(recipe) is None:
        local = _local(Path(recipe.weights), CLIP_FILE)
        if local is not None:
            return local
        if recipe.model == EMBEDDED:
            raise _unknown_for_embedded("image", recipe.weights)
    repository, name = tag_source(recipe)
    return _cached("image", repository, name), None


def _audio_source(recipe: AudioEncoderRecipe) -> tuple[Path | None, Path | None]:
    """Return the file of an AST's weights (None: random), and the folder of its config."""
    if recipe.weights == EMBEDDED:
        from vaprompt.encoders import embedded

        return embedded.AST_WEIGHTS, None
    if _is_random(recipe.weights):
        return None, None
    local = _local(Path(recipe.weights), AST_FILE)
    if local is not None:
        return local[0], local[0].parent
    if recipe.model == EMBEDDED:
        raise _unknown_for_embedded("audio", recipe.weights)
    file = _cached("audio", recipe.weights, AST_FILE)
    _cached("audio", recipe.weights, AST_CONFIG)
    return file, file.parent


def _is_random(weights: str) -> bool:
    return weights.startswith("random:")


def _seed(weights: str) -> int:
    seed = weights.removeprefix("random:")
    if not (seed.isascii() and seed.isdigit() and int(seed) < 2**63):
        raise RecipeError(f"weights = {weights}", fault="is not random:SEED with a whole SEED", remedy="write random:0")
    return int(seed)


def _local(path: Path, name: str) -> tuple[Path, Path | None] | None:
    """Return the weights file that a path names, and its folder if the path is one; None where nothing is there."""
    if path.is_dir():
        if not (path / name).is_file():
            if (path / f"{name}.index.json").is_file():
                raise WeightsError(
                    path,
                    fault=f"holds its weights in several files ({name}.index.json), and one is read",
                    remedy='write them as one: save_pretrained(DIR, max_shard_size="100GB") of transformers',
                )
            raise WeightsError(
                path, fault=f"holds no {name}", remedy="fill it with: vaprompt weights fetch RECIPE --to DIR"
            )
        return path / name, path
    if path.is_file():
        if path.suffix != ".safetensors":
            raise WeightsError(path, fault="is not a .safetensors file", remedy="pickles are never loaded; convert it")
        return path, None
    if path.suffix == ".safetensors" or path.is_absolute() or str(path).startswith("."):
        raise WeightsError(path, fault="is not there", remedy="fetch it with: vaprompt weights fetch RECIPE --to DIR")
    return None


def _cached(stream: str, repository: str, name: str) -> Path:
    try:
        found = huggingface_hub.try_to_load_from_cache(repository, name)
    except ValueError:  # not the form of a repository's name
        found = None
    if not isinstance(found, str):
        raise WeightsError(
            f"{repository}/{name}",
            fault="is not in this machine's cache, and extract never downloads or falls back",
            remedy=f"on a machine with a network run: vaprompt weights fetch RECIPE --to DIR; bring DIR here and add "
            f"--set {stream}.weights=DIR/{stream}",
        )
    return Path(found)


def _tag_config(recipe: ImageEncoderRecipe) -> dict[str, Any] | None:
    return None if recipe.model == EMBEDDED else published(recipe.model, recipe.weights)


def _require_same_gelu(recipe: ImageEncoderRecipe, trained_quick: bool, *, where: Path | str) -> None:
    """Refuse what open_clip only warns about: the other activation turns good weights into poor features."""
    config = open_clip_config(recipe.model) if recipe.model != EMBEDDED else {}
    built_quick = bool(config.get("quick_gelu", False))
    if built_quick != bool(trained_quick) and recipe.model != EMBEDDED and recipe.activation == "weights":
        plain = recipe.model.removesuffix("-quickgelu")
        raise WeightsError(
            where,
            fault=f"were trained with {_gelu(trained_quick)}, but {recipe.model} is built with {_gelu(built_quick)}",
            remedy=f"set image.model = {plain}-quickgelu" if trained_quick else f"set image.model = {plain}",
        )


def _require_same_architecture(recipe: ImageEncoderRecipe, trained: Mapping[str, Any], *, where: Path) -> None:
    """Refuse what differs without another form of any tensor, or in what open_clip adapts when it loads."""
    from vaprompt.encoders import embedded

    built = embedded.clip_config()["model_cfg"] if recipe.model == EMBEDDED else open_clip_config(recipe.model)
    found = differences(trained, built)
    if found:
        raise WeightsError(
            where,
            fault=f"does not fit {recipe.model}: {'; '.join(found)}",
            remedy="set image.model to what the weights were made for",
        )


def _gelu(quick: bool) -> str:
    return "QuickGELU" if quick else "plain GELU"


def _unknown_for_embedded(stream: str, weights: str) -> WeightsError:
    return WeightsError(
        f"{stream}.weights = {weights}",
        fault="are not weights of the miniature",
        remedy='use "embedded" or random:SEED',
    )


def _json(file: Path) -> dict[str, Any] | None:
    """Return a JSON file's mapping, or None where there is no file."""
    try:
        content = parsed_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WeightsError(file, fault=f"cannot be read ({error})", remedy="fetch the weights again") from None
    if not isinstance(content, dict):
        raise WeightsError(file, fault="is not a JSON mapping", remedy="fetch the weights again")
    return content
