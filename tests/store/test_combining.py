"""Stores from stores: merged, cut down, compared. Content is never changed, and never chosen silently."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.store.stores import DATASET, add, add_named, content, filled, several
from vaprompt.errors import FingerprintError, StoreError, TargetError
from vaprompt.store import FeatureStore
from vaprompt.store.layout import write_attributes
from vaprompt.store.sharing.combining import merge, subset
from vaprompt.store.sharing.comparing import compare
from vaprompt.store.sharing.contents import contents
from vaprompt.store.sharing.packed import pack
from vaprompt.store.storage import Folder
from vaprompt.store.verification import verify

ALL = {"a": "train", "b": "validation", "c": "test", "d": "train"}


def part(path, videos, frames=30):
    """Return a store with some of `ALL`; a video's content is the same in each."""
    store = FeatureStore.create(path, dataset=DATASET, recipe={"image_rate": "all"})
    for video in videos:
        add(store, video, ALL[video], frames, seed=ord(video))
    return store


def refingerprint(store, stream, **changes):
    write_attributes(store.path / stream, {"fingerprint": {**store.fingerprint(stream), **changes}})


def test_parts_merge_to_what_one_run_writes(tmp_path):
    whole = part(tmp_path / "whole.zarr", ALL)
    one, two = part(tmp_path / "1.zarr", "abc"), part(tmp_path / "2.zarr", "bd")
    written = merge([one.path, two.path], tmp_path / "c.zarr")
    assert content(tmp_path / "c.zarr") == content(whole.path)
    assert (written.videos, written.incomplete, written.shared) == (["a", "b", "c", "d"], [], 3)
    assert compare(whole.path, tmp_path / "c.zarr")["equal"]
    before = content(tmp_path / "c.zarr")
    assert merge([one.path, two.path], tmp_path / "c.zarr") == written
    assert content(tmp_path / "c.zarr") == before


def test_packed_stores_merge_like_folders(tmp_path):
    one, two = part(tmp_path / "1.zarr", "ab"), part(tmp_path / "2.zarr", "cd")
    pack(two.path, tmp_path / "2.zarr.zip")
    merge([one.path, tmp_path / "2.zarr.zip"], tmp_path / "c.zarr")
    assert content(tmp_path / "c.zarr") == content(part(tmp_path / "whole.zarr", ALL).path)


def test_one_video_copied_from_elsewhere_is_the_same_video(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "ab")
    marker = two.marker("image", "a")
    write_attributes(two.path / "image/a", marker | {"source": {"media": {"mtime_ns": 5}}, "notes": ["again"]})
    assert compare(one.path, two.path)["content"] == []
    merge([one.path, two.path], tmp_path / "c.zarr")
    assert FeatureStore.open(tmp_path / "c.zarr").marker("image", "a") == one.marker("image", "a")


def test_conflicts_are_all_named_and_nothing_is_written(tmp_path):
    one, two = part(tmp_path / "1.zarr", "abc"), part(tmp_path / "2.zarr", "abc")
    for video in "ab":
        add(two, video, ALL[video], seed=99)
    with pytest.raises(StoreError, match="different content of 2 videos") as error:
        merge([one.path, two.path], tmp_path / "c.zarr")
    assert "a (audio, image); b (audio, image)" in str(error.value)
    assert not (tmp_path / "c.zarr").exists()
    merge([one.path, two.path], tmp_path / "c.zarr", prefer=two.path)
    assert content(tmp_path / "c.zarr") == content(two.path)
    with pytest.raises(StoreError, match="is preferred, but not merged"):
        merge([one.path, two.path], tmp_path / "d.zarr", prefer=tmp_path / "c.zarr")


def test_what_is_preferred_decides_only_where_it_has_a_say(tmp_path):
    stores = [part(tmp_path / f"{number}.zarr", "ab"[:number]) for number in (1, 2)]
    other = part(tmp_path / "3.zarr", "b")
    add(other, "b", "validation", seed=99)
    with pytest.raises(StoreError, match=r"1 videos: b \("):
        merge([stores[0].path, stores[1].path, other.path], tmp_path / "c.zarr", prefer=stores[0].path)


def test_what_is_preferred_may_be_written_in_another_way(tmp_path, monkeypatch):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "a", frames=31)
    monkeypatch.chdir(tmp_path)
    for number, prefer in enumerate(("2.zarr/", "./2.zarr", two.path.as_uri())):
        target = tmp_path / f"merged-{number}.zarr"
        assert merge([one.path, two.path], target, prefer=prefer).videos == ["a"]
        assert not compare(two.path, target)["content"]
    with pytest.raises(StoreError, match=r"3\.zarr: is preferred, but not merged; name one of "):
        merge([one.path, two.path], tmp_path / "c.zarr", prefer="3.zarr")
    with pytest.raises(StoreError, match=r"^https://h/3: is preferred, but not merged; name one of https://h/1, https"):
        merge(["https://h/1?t=hush", "https://u:hush@h/2"], tmp_path / "c.zarr", prefer="https://u:hush@h/3?t=hush")


def test_another_split_is_a_conflict(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "b")
    add(two, "a", "validation", seed=ord("a"))
    with pytest.raises(StoreError, match=r"a \(audio, image, labels\)"):
        merge([one.path, two.path], tmp_path / "c.zarr")
    assert {tuple(found["differs"]) for found in compare(one.path, two.path)["content"]} == {("split",)}


@pytest.mark.parametrize("lacking", [("audio",), pytest.param(("audio", "image"), marks=pytest.mark.slow)])
def test_no_video_is_put_together_of_two_that_differ(tmp_path, lacking):
    one, two = part(tmp_path / "1.zarr", "ab"), part(tmp_path / "2.zarr", "c")
    add(two, "a", "validation", seed=99)
    for stream in lacking:
        one.remove(stream, "a")
    two.remove("labels", "a")
    with pytest.raises(StoreError, match=r"different content of 1 videos: a \("):
        merge([one.path, two.path], tmp_path / "c.zarr")
    written = merge([one.path, two.path], tmp_path / "c.zarr", prefer=one.path)
    assert (written.videos, written.incomplete) == (["b", "c"], ["a"])
    assert not any("split" in fault.fault for fault in verify(tmp_path / "c.zarr").faults)


def test_other_fingerprints_are_refused_with_the_fields(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "b")
    refingerprint(two, "image", model="ViT-L-14", log_mel={"bins": 64})
    with pytest.raises(FingerprintError) as error:
        merge([one.path, two.path], tmp_path / "c.zarr")
    told = str(error.value)
    assert f"{two.path}/image: was made differently" in told
    assert f"model: ViT-L-14 here, ViT-B-16-quickgelu in {one.path}" in told
    assert "log_mel.bins: 64 here, 128 in" in told
    assert not (tmp_path / "c.zarr").exists()
    other = FeatureStore.create(tmp_path / "3.zarr", dataset=DATASET | {"name": "other"})
    with pytest.raises(FingerprintError, match="name: other here, small in"):
        merge([one.path, other.path], tmp_path / "c.zarr")


def test_prompts_are_united(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "b")
    calm, angry, sad = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    one.write_text({"calm": calm, "angry": angry}, {"schema": 1})
    two.write_text({"sad": sad, "calm": calm * np.float32(1 + 1e-6)}, {"schema": 1})
    assert merge([one.path, two.path], tmp_path / "c.zarr").prompts == 3
    text = FeatureStore.open(tmp_path / "c.zarr").text()
    assert list(text) == ["calm", "angry", "sad"]
    assert (text["calm"].tobytes(), text["sad"].tobytes()) == (calm.tobytes(), sad.tobytes())
    assert compare(one.path, two.path)["prompts"] == {
        "only_a": ["angry"],
        "only_b": ["sad"],
        "differ": [],
        "fingerprint": {},
    }
    # Where one store has all prompts, its group is taken as it is.
    merge([two.path, tmp_path / "c.zarr"], tmp_path / "d.zarr")
    assert {name: raw for name, raw in content(tmp_path / "d.zarr").items() if name.startswith("text")} == {
        name: raw for name, raw in content(tmp_path / "c.zarr").items() if name.startswith("text")
    }
    two.write_text({"calm": angry}, {"schema": 1})
    assert compare(one.path, two.path)["prompts"]["differ"] == ["calm"]
    with pytest.raises(StoreError, match="another embedding of 'calm'"):
        merge([one.path, two.path], tmp_path / "e.zarr")


def test_prompts_under_a_name_are_united_and_compared_like_those_under_none(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "b")
    calm, sad = np.eye(2, 4, dtype=np.float32)
    for store, video, prompts in ((one, "a", {"calm": calm}), (two, "b", {"sad": sad})):
        add_named(store.path, "b32", prompts, video)
    one_sided = {"only_a": ["calm"], "only_b": ["sad"], "differ": [], "fingerprint": {}}
    assert compare(one.path, two.path)["named_prompts"] == {"b32": one_sided}
    merge([one.path, two.path], tmp_path / "c.zarr")
    assert list(FeatureStore.open(tmp_path / "c.zarr", "b32").text()) == ["calm", "sad"]
    shutil.copytree(one.path, tmp_path / "3.zarr")
    FeatureStore.open(tmp_path / "3.zarr", "b32").write_text({"calm": sad}, {"schema": 1, "model": "b32"})
    assert not compare(one.path, tmp_path / "3.zarr")["equal"]
    with pytest.raises(StoreError, match=r"text\.b32: holds another embedding of 'calm'"):
        merge([one.path, tmp_path / "3.zarr"], tmp_path / "d.zarr")


def test_streams_under_a_name_need_equal_fingerprints_and_no_equal_recipe(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "b")
    for store, video, batch in ((one, "a", 8), (two, "b", 16)):
        add_named(store.path, "b32", {"calm": np.ones(6, np.float32)}, video)
        FeatureStore.create(store.path, recipe={"audio": {"batch": batch}}, stream="b32")
    merge([one.path, two.path], tmp_path / "c.zarr")
    merged = FeatureStore.open(tmp_path / "c.zarr", "b32")
    assert merged.recipe == {"audio": {"batch": 8}}
    assert merged.done("image") == {"a", "b"}
    write_attributes(two.path / "image.b32", {"fingerprint": {**merged.fingerprint("image"), "model": "l14"}})
    with pytest.raises(FingerprintError, match=r"model: l14 here, b32 in .*1\.zarr"):
        merge([one.path, two.path], tmp_path / "d.zarr")


def test_a_name_that_one_store_lacks_is_told_in_a_word(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "b")
    add_named(one.path, "b32", {"calm": np.ones(6, np.float32)}, "a")
    FeatureStore.create(one.path, recipe={"image": {"model": "b32", "size": 224}}, stream="b32")
    only = r"\(b32: nothing here, \['image', 'text'\] in [^;]*1\.zarr\); merge stores"
    with pytest.raises(FingerprintError, match=only):
        merge([one.path, two.path], tmp_path / "c.zarr")


def test_failures_stay_unless_another_store_has_the_video(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "b")
    one.record_failure("b", "no disk")
    one.record_failure("z", "no pictures")
    two.record_failure("z", "later reason")
    merge([one.path, two.path], tmp_path / "c.zarr")
    assert FeatureStore.open(tmp_path / "c.zarr").failed() == {"z": "no pictures"}


def test_a_stream_that_only_one_has_leaves_videos_incomplete(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "b")
    with two.writer("depth", "b", {"schema": 1}) as writer:
        writer.append(embedding=np.ones((5, 2), np.float16))
        writer.publish({"split": "validation", "notes": []})
    written = merge([one.path, two.path], tmp_path / "c.zarr")
    assert (written.videos, written.incomplete) == (["b"], ["a"])
    assert content(tmp_path / "c.zarr").keys() >= {"depth/zarr.json", "depth/b/embedding/c/0/0"}
    assert compare(one.path, tmp_path / "c.zarr")["streams"] == {"only_a": [], "only_b": ["depth"]}


def test_nothing_is_merged_into_one_of_the_stores_or_of_one_store_alone(tmp_path):
    one, two = part(tmp_path / "1.zarr", "a"), part(tmp_path / "2.zarr", "b")
    before = content(one.path)
    with pytest.raises(TargetError, match="holds something else"):
        merge([one.path, two.path], one.path)
    assert content(one.path) == before
    with pytest.raises(StoreError, match="one store cannot be merged"):
        merge([one.path], tmp_path / "c.zarr")


KILLED = """
import os, signal, sys
from pathlib import Path
from vaprompt.store.sharing import folder
rename, left = Path.rename, int(sys.argv[4])
def renamed(self, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = renamed
os.fsync = lambda descriptor: None
from vaprompt.store.sharing.combining import merge
merge([sys.argv[1], sys.argv[2]], Path(sys.argv[3]))
"""


def test_a_killed_merge_is_finished_by_the_next_and_by_no_other(tmp_path):
    one, two = part(tmp_path / "1.zarr", "ab"), part(tmp_path / "2.zarr", "bcd")
    target = tmp_path / "c.zarr"
    for after in (1, 4, 6):
        command = [sys.executable, "-c", KILLED, one.path, two.path, target, str(after)]
        assert subprocess.run(command, check=False, env=os.environ).returncode == -signal.SIGKILL
        with pytest.raises(StoreError, match="no feature store"):
            FeatureStore.open(target)
    there = {group.video for group in contents(Folder(target))} - {None}
    other = next(video for video in "bcd" if there - {video})  # whichever groups the threads came to
    with pytest.raises(TargetError, match="holds something else"):
        subset(two.path, target, videos=[other])
    merge([one.path, two.path], target)
    assert content(target) == content(part(tmp_path / "whole.zarr", ALL).path)


def test_a_subset_holds_the_asked_videos_and_all_prompts(tmp_path):
    store = several(tmp_path / "s.zarr")
    written = subset(store.path, tmp_path / "train.zarr", splits=["train"])
    assert (written.videos, written.incomplete, written.prompts) == (["a"], ["long", "silent"], 2)
    cut = FeatureStore.open(tmp_path / "train.zarr")
    assert (cut.videos(), cut.failed()) == (["a"], {})
    files = content(tmp_path / "train.zarr")
    assert files.items() <= content(store.path).items()
    assert subset(store.path, tmp_path / "2.zarr", videos=["b", "broken", "c.d"]).videos == ["b", "c.d"]
    assert FeatureStore.open(tmp_path / "2.zarr").failed() == {"broken": "has no pictures"}
    both = subset(store.path, tmp_path / "3.zarr", splits=["validation", "test"], videos=["a", "b"])
    assert both.videos == ["b"]


def test_a_subset_of_nothing_is_refused(tmp_path):
    store = filled(tmp_path / "s.zarr", {"a": "train"})
    for asked, fault in (
        ({"splits": ["training"]}, "no split training"),
        ({"splits": ["test"]}, "has no such video"),
        ({"videos": ["a", "x", "y"]}, "has no video x, y"),
        ({"videos": ["../a"]}, "has no video"),
    ):
        with pytest.raises(StoreError, match=fault):
            subset(store.path, tmp_path / "c.zarr", **asked)
    assert not (tmp_path / "c.zarr").exists()


def test_parts_of_a_store_merge_to_it(tmp_path):
    store = several(tmp_path / "s.zarr")
    subset(store.path, tmp_path / "1.zarr", splits=["train"])
    subset(store.path, tmp_path / "2.zarr", splits=["validation", "test"])
    subset(store.path, tmp_path / "3.zarr", videos=["broken", "a"])
    merge([tmp_path / f"{number}.zarr" for number in (1, 2, 3)], tmp_path / "back.zarr")
    assert content(tmp_path / "back.zarr") == content(store.path)


def test_a_store_differs_in_nothing_from_itself(tmp_path):
    store = several(tmp_path / "s.zarr")
    pack(store.path, tmp_path / "s.zarr.zip")
    found = compare(store.path, tmp_path / "s.zarr.zip")
    assert found["equal"]
    assert (found["a"], found["b"]) == (str(store.path), str(tmp_path / "s.zarr.zip"))


def test_differences_are_named_stream_by_stream(tmp_path):
    one, two = part(tmp_path / "1.zarr", "abc"), part(tmp_path / "2.zarr", "abd")
    add(two, "a", "train", frames=31, seed=ord("a"))
    refingerprint(two, "audio", schema=2)
    with two.writing():
        pass
    (two.path / "labels/b").rename(tmp_path / "gone")
    found = compare(one.path, two.path)
    assert not found["equal"]
    assert json.loads(json.dumps(found)) == {
        "a": str(one.path),
        "b": str(two.path),
        "equal": False,
        "dataset": {},
        "streams": {"only_a": [], "only_b": []},
        "fingerprints": {"audio": {"schema": [1, 2]}},
        "videos": {"only_a": ["c"], "only_b": ["d"]},
        "content": [
            {"stream": "audio", "video": "a", "differs": ["counts", "embedding"]},
            {"stream": "image", "video": "a", "differs": ["counts", "embedding", "frame", "time"]},
            {"stream": "labels", "video": "a", "differs": ["counts", "time", "valid", "value"]},
            {"stream": "labels", "video": "b", "differs": ["only in a"]},
        ],
        "prompts": {"only_a": [], "only_b": [], "differ": [], "fingerprint": {}},
        "named_prompts": {},
    }
