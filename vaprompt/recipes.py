"""What all recipes share: validated fields, TOML files, `--set key=value`, and errors that name the nearest valid key.

A recipe is a frozen pydantic model. Each component's recipe stands beside the component; this module only
reads, overrides, checks and writes them.
"""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from vaprompt.errors import RecipeError, UnfitError

R = TypeVar("R", bound="Recipe")

MOST_BYTES = 10**7
"""Of a TOML file: a table of a hundred thousand videos' rates fits."""
BOUNDS = {"ge": "greater than or equal to", "gt": "greater than", "le": "less than or equal to", "lt": "less than"}
"""What a field's limits are called, in pydantic's own words."""
OUT_OF_RANGE = ("greater_than_equal", "greater_than", "less_than_equal", "less_than")


class Recipe(BaseModel):
    """Base of all recipes: immutable, no unknown keys, each field explained by the docstring below it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


def read_recipe(kind: type[R], source: Path | None = None, overrides: Sequence[str] = ()) -> R:
    """Return the recipe of `kind` in the TOML file `source`, with `--set` overrides applied.

    Args:
        kind: the recipe's class; its defaults fill what the file leaves out.
        source: a TOML file; None takes the defaults alone.
        overrides: texts of the form `dotted.key=value`; the value is read as TOML, else taken as text.

    Raises:
        RecipeError: the file is missing or not TOML, a key is unknown (the nearest valid one is named),
            or a value is outside its range.
    """
    values: dict[str, Any] = {} if source is None else read_toml(source)
    where, folder = (str(source), source.parent) if source else ("--set", Path())
    return changed(kind, values, overrides, where=where, folder=folder)


def changed(
    kind: type[R], values: Mapping[str, Any], overrides: Sequence[str], *, where: str, folder: Path | None = None
) -> R:
    """Return `values` as a recipe of `kind`, with `--set` overrides applied; `where` and `folder` as in `validated`.

    Raises:
        RecipeError: an unknown key, a value out of its range, or an override of another form.
    """
    try:
        now: dict[str, Any] = copy.deepcopy(dict(values))
    except RecursionError:
        raise _too_deep(where) from None
    for override in overrides:
        _apply(now, override)
    try:
        return _checked(kind, now, folder)
    except ValidationError as error:
        raise _explained(kind, error, _culprit(error, overrides) or where) from None


def read_toml(source: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        RecipeError: it cannot be read, or is not TOML.
    """
    try:
        with source.open("rb") as file:
            text = file.read(MOST_BYTES + 1)  # a device or a pipe may never end
        if len(text) > MOST_BYTES:
            raise RecipeError(source, fault=f"is larger than {MOST_BYTES // 10**6} MB", remedy="give a TOML text file")
        return tomllib.loads(text.decode("utf-8-sig"))
    except FileNotFoundError:
        raise RecipeError(
            source, fault="there is no such file", remedy="check the path; recipes end in .toml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(source, fault=f"cannot be read ({error})", remedy="give a TOML text file") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(source, fault=f"is not TOML: {error}", remedy="mend the line named") from None
    except RecursionError:
        raise _too_deep(source) from None


def validated(kind: type[R], values: Mapping[str, Any], *, where: str, folder: Path | None = None) -> R:
    """Return `values` as a recipe of `kind`; `where` is named in the error.

    Where a field may name a file of texts, the file is looked for in `folder`, then in the current one. Without a
    folder no file is read: so it must be with values that come from a store or a run.

    Raises:
        RecipeError: an unknown key or a value out of range.
    """
    try:
        return _checked(kind, values, folder)
    except ValidationError as error:
        raise _explained(kind, error, where) from None


def _checked(kind: type[R], values: Mapping[str, Any], folder: Path | None) -> R:
    return kind.model_validate(dict(values), context={"folder": folder})


def _lines(value: Any, info: Any) -> Any:
    folder = (info.context or {}).get("folder")
    if not isinstance(value, str) or folder is None:
        return value
    there = [path for path in (folder / value, Path(value)) if path.is_file()]
    if not there:
        raise ValueError(f"there is no such file, neither in {folder.absolute()} nor here")
    try:
        lines = there[0].read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read as text ({error})") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


Texts = Annotated[tuple[str, ...], BeforeValidator(_lines)]
"""Several texts; a recipe can name a file instead, with one a line; empty lines and those with # do not count."""


def write_recipe(recipe: Recipe, target: Path) -> None:
    """Write the recipe with every field, defaults included, as TOML (None is left out, as TOML has no null)."""
    target.write_text(tomli_w.dumps(without_none(recipe.model_dump(mode="json"))), encoding="utf-8")


def without_none(value: Any) -> Any:
    """Return nested dicts and lists without the dict entries that are None."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return value


def shipped(kind: str, name: str) -> Path:
    """Return the path of a recipe that comes with the program: `shipped("extract", "paper")`.

    In a checkout these are the folders `data`, `extract` and `train` beside the package; an installed
    package carries copies of them.
    """
    package = Path(__file__).parent
    for folder in (package.parent, package / "shipped"):
        path = folder / kind / f"{name}.toml"
        if path.is_file():
            return path
    raise RecipeError(f"{kind}/{name}.toml", fault="does not come with this installation", remedy="reinstall vaprompt")


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not all(part.strip() for part in key.split(".")):
        raise RecipeError(
            f"--set {override}", fault="is not of the form key=value", remedy="write for example --set image.batch=8"
        )
    *parents, last = (part.strip() for part in key.split("."))
    for depth, parent in enumerate(parents):
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            above = ".".join(parents[: depth + 1])
            raise RecipeError(f"--set {override}", fault=f"{above} has no keys below it", remedy=f"set {above} itself")
    values[last] = _toml_value(text.strip())


def _too_deep(where: Path | str) -> RecipeError:
    return RecipeError(where, fault="nests lists or tables too deeply", remedy="give a recipe")


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _culprit(error: ValidationError, overrides: Sequence[str]) -> str | None:
    """Return the `--set` that the first complaint is about; None where it is about something else."""
    key = ".".join(str(part) for part in _complaints(error)[0]["loc"])
    for override in reversed(overrides):
        name = ".".join(part.strip() for part in override.partition("=")[0].split("."))
        if key == name or key.startswith(f"{name}."):
            return f"--set {override}"
    return None


def _complaints(error: ValidationError) -> list[Any]:
    """Return what pydantic complains of, unknown keys first: what is missing may be there under a misspelt one."""
    return sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")


def _explained(kind: type[Recipe], error: ValidationError, where: str) -> RecipeError:
    """Turn the first complaint into one line with the key, the fault and the way out."""
    complaints = _complaints(error)
    first = complaints[0]
    key = ".".join(str(part) for part in first["loc"])
    known = known_keys(kind)
    if first["type"] == "extra_forbidden":
        return RecipeError(where, fault=f"unknown key '{key}'", remedy=_valid_ones(key, known))
    if first["type"] == "missing":
        return RecipeError(where, fault=f"lacks '{key}'", remedy="give it a value")
    if first["type"] == "model_type":
        below = next((other for other in known if other.startswith(f"{key}.")), key)
        return RecipeError(where, fault=f"{key} has no value itself", remedy=f"set fields below it, such as {below}")
    given = first["input"]
    if first["type"] == "value_error" and isinstance(given, Mapping):
        # Each field is as it may be, but not together: the recipe's own check says what would be.
        told = f"{key} is" if key else "is"
        return UnfitError(where, fault=f"{told} not right as a whole", remedy=str(first["ctx"]["error"]))
    remedy = _range(kind, first["loc"]) if first["type"] in OUT_OF_RANGE else None
    remedy = remedy or first["msg"]
    parent = ".".join(str(part) for part in first["loc"][:-1])
    if key not in known and parent in known and isinstance(first["loc"][-1], str):
        # A field that may be of several types: there is a complaint about each, under the type's name.
        key, wanted = parent, [other["msg"] for other in complaints if other["loc"][:-1] == first["loc"][:-1]]
        remedy = " or ".join(dict.fromkeys(wanted)).replace(" or Input should be ", " or ")
    shown = f"{given!r}" if isinstance(given, (str, int, float, bool, list)) else type(given).__name__
    return RecipeError(where, fault=f"{key} = {shown[:80]} is not allowed", remedy=remedy)


def _range(kind: type[BaseModel], place: Sequence[Any]) -> str | None:
    """Return both ends of what a field may be, as pydantic says the one that is left; None where it has one or none."""
    inside: type[BaseModel] | None = kind
    field = None
    for name in place:
        field = inside.model_fields.get(name) if inside is not None else None
        inside = _nested_recipe(field.annotation) if field is not None else None
    bounds = {
        f"{words} {limit:g}" if abs(limit) < 1e6 else f"{words} {limit}"
        for bound in (field.metadata if field is not None else ())
        for sign, words in BOUNDS.items()
        if (limit := getattr(bound, sign, None)) is not None
    }
    return f"Input should be {' and '.join(sorted(bounds))}" if len(bounds) > 1 else None


def _valid_ones(key: str, known: Sequence[str]) -> str:
    """Tell the key that was meant; where none is near, as in a recipe of another kind, all that could stand there."""
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"the nearest valid one is '{near[0]}'"
    parent = key.rpartition(".")[0]
    beside = [other for other in known if other.rpartition(".")[0] == parent]
    return f"valid ones are {', '.join(beside or known)}"


def known_keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all fields of a recipe, those of nested recipes included."""
    keys: list[str] = []
    for name, field in kind.model_fields.items():
        nested = _nested_recipe(field.annotation)
        keys.append(prefix + name)
        if nested is not None:
            keys += known_keys(nested, f"{prefix}{name}.")
    return keys


def _nested_recipe(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
