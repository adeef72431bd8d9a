"""Damaged and forged stores: files changed blindly, and metadata changed with all digests made to fit."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from tests.fuzz.mutate import BLIND, mutants
from tests.fuzz.run import TIMES, run
from tests.fuzz.structure import changed
from tests.store.stores import filled
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.layout import DIGEST, digest_of, group_metadata
from vaprompt.store.sharing.packed import pack
from vaprompt.store.verification import verify

MEMORY = 2**30
"""Bytes that reading one store of 10 kB may take at most, torch (0.4 GB) included."""
SEED = 4711


def _whole(path: Path) -> Path:
    store = filled(path, {"video1": "train", "video2": "validation"})
    store.write_text({"calm": np.ones(8, np.float32), "angry": np.zeros(8, np.float32)}, {"schema": 1})
    store.record_failure("video3", "video3.mp4: is cut off; copy it again")
    store.write_index()
    assert verify(path, deep=True).ok
    return path


def _blind(store: Path, rng: np.random.Generator) -> None:
    """Damage one file as a disk or a network would."""
    files = sorted(path for path in store.rglob("*") if path.is_file())
    metadata = [path for path in files if path.suffix == ".json"]
    file = (metadata if rng.random() < 0.7 else files)[rng.integers(len(metadata))]
    content = file.read_bytes()
    file.write_bytes(BLIND[rng.integers(len(BLIND))](content, rng) if content else b"\0")


def _forge(store: Path, rng: np.random.Generator) -> None:
    """Change what a file says, and make every digest fit: only somebody who means it does so."""
    groups = sorted(path.parent for path in store.rglob("zarr.json") if _is_group(path))
    group = groups[rng.integers(len(groups))]
    attributes = json.loads((group / "zarr.json").read_bytes())["attributes"]
    attributes.pop(DIGEST)
    arrays = [name for name in attributes.get("files", {}) if name.endswith("zarr.json")]
    chunks = [name for name in attributes.get("files", {}) if not name.endswith("zarr.json")]
    kind = rng.random()
    if arrays and kind < 0.4:
        name = arrays[rng.integers(len(arrays))]
        _list(group, attributes, name, _json(changed(json.loads((group / name).read_bytes()), rng)))
    elif chunks and kind < 0.55:
        name = chunks[rng.integers(len(chunks))]
        body = (group / name).read_bytes()[:-4]
        body = rng.bytes(len(body)) if rng.random() < 0.7 else BLIND[rng.integers(len(BLIND))](body, rng)
        _list(group, attributes, name, body + google_crc32c.value(body).to_bytes(4, "little"))
    elif kind < 0.9:
        attributes = changed(attributes, rng)
    else:
        index = json.loads((store / INDEX_FILE).read_bytes())
        index.pop("digest")
        index = changed(index, rng)
        if isinstance(index, dict):
            index["digest"] = digest_of(index)
        (store / INDEX_FILE).write_bytes(json.dumps(index, sort_keys=True, separators=(",", ":")).encode())
    if isinstance(attributes, dict):
        (group / "zarr.json").write_bytes(group_metadata(attributes))


def _list(group: Path, attributes: dict[str, Any], name: str, content: bytes) -> None:
    (group / name).write_bytes(content)
    attributes["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _is_group(path: Path) -> bool:
    return json.loads(path.read_bytes())["node_type"] == "group"


def _check(tmp_path: Path, count: int) -> None:
    """Look at so many stores with damaged metadata, and at those with damaged chunks that come up among them."""
    whole = _whole(tmp_path / "whole.zarr")
    before = _contents(whole)
    stores = [whole]
    for number in itertools.count():
        store = Path(shutil.copytree(whole, tmp_path / f"{number:05d}.zarr", copy_function=shutil.copy2))
        for path in (whole, *whole.rglob("*")):  # the index tells of folders by their times
            shutil.copystat(path, store / path.relative_to(whole))
        _damage(store, np.random.default_rng([SEED, number]))
        damaged = {Path(name).name for name, content in _contents(store).items() if before[name] != content}
        stores += [store] if damaged else []
        count -= damaged == {"zarr.json"}
        if count == 0:
            break
    _found(stores)


def _contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def _found(stores: list[Path]) -> None:
    found = run("store", stores)
    print(
        f"{len(stores)} stores, {found.read} results, {found.refused} refusals, "
        f"peak {found.peak / 2**20:.0f} MiB, slowest {found.slowest:.2f} s"
    )
    assert not found.faults, "\n".join(found.faults)[:20_000]
    assert found.peak < MEMORY
    assert found.read > 0
    assert found.refused > len(stores) / 20, "the damage does none"


def _check_archives(tmp_path: Path, count: int) -> None:
    whole = tmp_path / "whole.zarr.zip"
    pack(_whole(tmp_path / "whole.zarr"), whole)
    archives = [whole]
    for number, mutant in enumerate(mutants(whole.read_bytes(), _directory, count, SEED)):
        archives.append(tmp_path / f"{number:05d}.zarr.zip")
        archives[-1].write_bytes(mutant)
    _found(archives)


def _directory(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a zip's list of what is in it, which lies at its end."""
    start = content.find(b"PK\x01\x02")
    return content[:start] + BLIND[rng.integers(len(BLIND))](content[start:], rng) if start >= 0 else content


def _damage(store: Path, rng: np.random.Generator) -> None:
    (_blind if rng.random() < 0.5 else _forge)(store, rng)


@pytest.mark.slow
def test_damaged_stores_end_in_a_result_or_one_line(tmp_path):
    _check(tmp_path, 200 * TIMES)


@pytest.mark.slow
def test_damaged_archives_end_in_a_result_or_one_line(tmp_path):
    _check_archives(tmp_path, 60 * TIMES)
