"""docs/store-format.md, read with zarr-python alone: no part of vaprompt touches the store below."""

import hashlib
import re
from pathlib import Path

import numpy as np
import zarr

from tests.store.stores import DATASET, IMAGE, filled
from vaprompt.store.sharing.hdf5 import export


def test_a_store_is_plain_zarr(tmp_path):
    store = filled(tmp_path / "s.zarr", {"video1": "train", "video2": "test"}, frames=9)
    store.write_text({"a face": np.arange(4, dtype=np.float32)}, {"model": "m"})
    store.record_failure("video3", "why")
    with store.writing():  # as extract does: what was aside is cleared away
        pass

    root = zarr.open_group(str(store.path), mode="r")

    assert root.attrs["format"] == 1
    assert root.attrs["dataset"] == DATASET
    assert root.attrs["recipe"] == {"image_rate": "all"}
    assert sorted(root.group_keys()) == ["audio", "failed", "image", "labels", "text"]
    assert root["image"].attrs["fingerprint"] == IMAGE
    assert sorted(root["image"].group_keys()) == ["video1", "video2"]
    shapes = {
        "image/video1/embedding": ((9, 8), "float16"),
        "image/video1/frame": ((9,), "int32"),
        "image/video1/time": ((9,), "float64"),
        "audio/video1/embedding": ((2, 3, 4), "float16"),
        "audio/video1/end": ((2,), "float64"),
        "labels/video1/value": ((9, 2), "float32"),
        "labels/video1/valid": ((9,), "bool"),
        "labels/video1/time": ((9,), "float64"),
        "text/embedding": ((1, 4), "float32"),
    }
    for name, (shape, dtype) in shapes.items():
        assert root[name].shape == shape
        assert root[name].dtype == np.dtype(dtype)
        codecs = [codec["name"] for codec in root[name].metadata.to_dict()["codecs"]]
        assert codecs == ["bytes", "crc32c"]
    np.testing.assert_array_equal(root["image/video1/frame"][:], np.arange(1, 10))
    assert root["labels/video2"].attrs["split"] == "test"
    assert root["text"].attrs["prompts"] == ["a face"]
    assert root["failed/video3"].attrs["reason"] == "why"

    marker = root["image/video1"].attrs
    assert marker["status"] == "done"
    assert sorted(marker["files"]) == sorted(
        f"{array}/{file}"
        for array, file in (
            ("embedding", "c/0/0"),
            ("embedding", "zarr.json"),
            ("frame", "c/0"),
            ("frame", "zarr.json"),
            ("time", "c/0"),
            ("time", "zarr.json"),
        )
    )
    for file, facts in marker["files"].items():
        content = (store.path / "image/video1" / file).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_documents_code_runs(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs" / "store-format.md").read_text(encoding="utf-8")
    store = filled(tmp_path / "demo" / "store.zarr", {"video1": "validation"}, frames=9)
    export(store.path, tmp_path / "store.h5")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/store-format.md", "exec"), {})
        assert "video1" in capsys.readouterr().out
