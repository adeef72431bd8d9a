"""What this machine can do: one finding for each thing that the program stands on, with the way to mend it.

A *fault* keeps some command from working; a *remark* is worth knowing and keeps nothing from working, such as
weights that are not at hand here.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from shlex import quote
from typing import Literal

from packaging.requirements import Requirement

from vaprompt.encoders.recipes import EMBEDDED
from vaprompt.errors import VapromptError
from vaprompt.recipes import read_recipe, shipped

State = Literal["ok", "remark", "fault"]
PYTHON = (3, 11)
ROOMY = 10e9
"""Bytes of free disk from which on nothing needs saying: the features of Aff-Wild2 take about as much."""
# Those that break at import when their versions do not fit together, rather than when pip looks at their ranges.
FRAGILE = ("torch", "torchvision", "torchaudio", "open_clip", "transformers", "av", "zarr")
CODECS = ("h264", "hevc", "mpeg4", "aac", "mp3")


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    subject: str
    state: State
    found: str
    """What is there."""
    remedy: str = ""
    """What to do about it; empty where there is nothing to do."""


def examine(where: Path) -> Iterator[Finding]:
    """Yield the findings one after the other; `where` is the folder whose disk is looked at.

    Takes some seconds, as torch and the encoders' libraries are imported.
    """
    yield _python()
    yield from _packages()
    imports = list(_imports())
    yield from imports
    if all(finding.state == "ok" for finding in imports):
        yield from _devices()
        yield _ffmpeg()
        yield from _weights()
    yield _faces()
    yield _serving()
    yield _cluster()
    yield _recipes()
    yield _disk(where)
    yield _cache()


def requirements() -> list[Requirement]:
    """Return the packages, with ranges, that the program asks for: those of pyproject.toml, extras left out."""
    try:
        listed = requires("vaprompt") or []
    except PackageNotFoundError:  # run from a checkout that is not installed
        source = Path(__file__).parents[2] / "pyproject.toml"
        listed = tomllib.loads(source.read_text(encoding="utf-8"))["project"]["dependencies"]
    found = [Requirement(text) for text in listed]
    return [item for item in found if item.marker is None or item.marker.evaluate({"extra": ""})]


def _python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= PYTHON:
        return Finding("python", "ok", found)
    return Finding("python", "fault", found, f"use Python {'.'.join(map(str, PYTHON))} or newer")


def _packages() -> Iterator[Finding]:
    fitting = []
    for wanted in requirements():
        asked = f"{wanted.specifier} is asked for"
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield Finding(wanted.name, "fault", f"missing; {asked}", f"pip install '{wanted}'")
            continue
        if wanted.specifier.contains(found, prereleases=True):
            fitting.append(f"{wanted.name} {found}")
        else:
            yield Finding(wanted.name, "fault", f"{found}; {asked}", f"pip install '{wanted}'")
    if fitting:
        yield Finding("packages", "ok", ", ".join(fitting))


def _imports() -> Iterator[Finding]:
    for name in FRAGILE:
        try:
            import_module(name)
        except (ImportError, OSError, RuntimeError) as error:  # what a build that does not fit raises
            reason = " ".join(str(error).split())[:200]
            yield Finding(f"import {name}", "fault", reason, "make a fresh environment: rm -r .venv, then make setup")
            return
    yield Finding("imports", "ok", ", ".join(FRAGILE))


def _devices() -> Iterator[Finding]:
    import torch

    threads = torch.get_num_threads()
    instructions = [name for name, there in _instructions() if there]
    yield Finding(
        "processor",
        "ok",
        f"{os.cpu_count()} logical cores, {threads} threads in torch; {', '.join(instructions) or 'plain'}",
    )
    if any(name.endswith("bf16") for name in instructions):
        yield Finding("bf16", "ok", "the processor multiplies bf16 itself: --set image.precision=bf16 is worth trying")
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        yield Finding("device", "ok", f"cuda:{index}: {facts.name}, {facts.total_memory / 1e9:.0f} GB")
    if torch.backends.mps.is_available():
        yield Finding("device", "ok", "mps")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        yield Finding("device", "remark", "cpu alone", "training is fine; extract large sets where there is a GPU")


def _instructions() -> list[tuple[str, bool]]:
    """Return the vector and matrix instructions that matter for the encoders' speed, from the kernel's list."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux: say nothing rather than guess
        return []
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return [(name, name in flags) for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")]


def _ffmpeg() -> Finding:
    import av

    missing = [name for name in CODECS if name not in av.codecs_available]
    found = f"{getattr(av, 'ffmpeg_version_info', 'of an unknown version')} inside PyAV {av.__version__}"
    if not missing:
        return Finding("ffmpeg", "ok", f"{found}; decodes {', '.join(CODECS)}")
    return Finding(
        "ffmpeg", "remark", f"{found}; cannot decode {', '.join(missing)}", "pip install --force-reinstall av"
    )


def _weights() -> Iterator[Finding]:
    from vaprompt.encoders.weights import available
    from vaprompt.extraction.recipe import ExtractRecipe

    for name in ("demo", "paper"):
        try:
            source = shipped("extract", name)
        except VapromptError:
            continue  # the recipes are a finding of their own
        recipe = read_recipe(ExtractRecipe, source)
        for encoder in available(recipe.image, recipe.audio):
            subject = f"extract/{name}.toml, {encoder.stream}"
            inside = encoder.weights == EMBEDDED
            if encoder.fault is None and (not inside or Path(str(encoder.where)).is_file()):
                yield Finding(subject, "ok", encoder.weights if inside else f"{encoder.weights}: {encoder.where}")
            elif inside:
                yield Finding(subject, "fault", f"{encoder.where} is missing", "reinstall vaprompt")
            else:
                remedy = f"where there is a network: vaprompt weights fetch {source} --to DIR"
                yield Finding(subject, "remark", f"weights {encoder.weights} are not at hand", remedy)


def _faces() -> Finding:
    from vaprompt.faces.detector import INSTALL, missing

    reason = missing()
    if reason is None:
        return Finding("faces", "ok", "the detector is installed: predict and extract find faces themselves")
    return Finding("faces", "remark", f"{reason}: whole frames are used where there are no crops", INSTALL)


def _serving() -> Finding:
    try:
        found = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "uvicorn", "websockets"))
    except PackageNotFoundError as error:
        return Finding(
            "serve", "remark", f"{error.name} is not installed: no local page", "pip install 'vaprompt[serve]'"
        )
    return Finding("serve", "ok", f"{found}: serve shows a local page")


def _cluster() -> Finding:
    from vaprompt.cluster import INSTALL

    try:
        return Finding("ray", "ok", f"{version('ray')}: extract --engine ray works on several machines")
    except PackageNotFoundError:
        return Finding("ray", "remark", "not installed: extract works on one machine at a time", INSTALL)


def _recipes() -> Finding:
    looked_for = [("data", "demo"), *((kind, name) for kind in ("extract", "train") for name in ("paper", "demo"))]
    missing = []
    for kind, name in looked_for:
        try:
            folder = shipped(kind, name).parents[1]
        except VapromptError:
            missing.append(f"{kind}/{name}.toml")
    if missing:
        return Finding("recipes", "fault", f"missing: {', '.join(missing)}", "reinstall vaprompt")
    return Finding("recipes", "ok", f"in {folder}")


def _disk(where: Path) -> Finding:
    folder = next(path for path in (where.absolute(), *where.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.0f} GB free at {folder}"
    if free >= ROOMY:
        return Finding("disk", "ok", found)
    return Finding("disk", "remark", found, "features of Aff-Wild2 take about 8 GB: put the store elsewhere")


def _cache() -> Finding:
    from vaprompt.caching import cache_folder

    folder = cache_folder()
    again = {name: _gigabytes(folder / name) for name in ("stores", "features")}
    unpushed = _gigabytes(folder / "staging")
    found = f"{again['stores']:.1f} GB of remote stores, {again['features']:.1f} GB of joined features in {folder}; "
    found += f"rm -r {' '.join(quote(str(folder / name)) for name in again)} clears them"
    if unpushed:
        found += f"; {unpushed:.1f} GB of extractions to URLs in {folder / 'staging'}, perhaps not pushed yet"
    return Finding("cache", "ok", found)


def _gigabytes(folder: Path) -> float:
    # Copies share what they have in common, so each file is counted once.
    files = (path.lstat() for path in folder.rglob("*") if path.is_file())
    return sum({state.st_ino: state.st_size for state in files}.values()) / 1e9
