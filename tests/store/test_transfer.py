"""Pushing and pulling: exact, only what differs, checked on arrival, and to the same end however often cut off."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from tests.servers import Front, web_server
from tests.store.stores import DATASET, IMAGE
from vaprompt.errors import FingerprintError, StoreError, TargetError
from vaprompt.store import FeatureStore
from vaprompt.store.groups import digests, fresh_index
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.layout import GROUP_FILE, write_attributes
from vaprompt.store.network import connect
from vaprompt.store.pull import pull
from vaprompt.store.push import push
from vaprompt.store.remote import PUSH_NOTE
from vaprompt.store.storage import Folder

VIDEOS = {"a": "train", "b": "validation"}


@pytest.fixture
def url() -> str:
    return f"s3://team/{uuid.uuid4().hex}/s.zarr"


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Return a store of few files, as each is a request."""
    made = FeatureStore.create(tmp_path / "s.zarr", dataset=DATASET)
    for video, split in VIDEOS.items():
        add(made, video, split)
    made.write_index()
    return made


def add(store: FeatureStore, video: str, split: str = "train", frames: int = 30, seed: int = 0) -> None:
    chance = np.random.default_rng(seed)
    arrays = {"embedding": chance.normal(size=(frames, 8)).astype(np.float16), "time": np.arange(frames) / 30}
    with store.writer("image", video, IMAGE) as writer:
        writer.append(**arrays, frame=np.arange(1, frames + 1, dtype=np.int32))
        writer.publish({"split": split, "notes": []})
    with store.writer("labels", video, {"schema": 1}) as writer:
        writer.append(valid=np.ones(frames, bool))
        counts = {"frames": frames, "valid": frames, "seconds": frames / 30}
        writer.publish({"split": split, "counts": counts, "notes": []})


def content(folder: Path) -> dict[str, bytes]:
    """Return all files of a store but those that are hidden: the index is a cache with times of this disk in it."""
    files = (file for file in folder.rglob("*") if file.is_file() and "/." not in f"/{file.relative_to(folder)}")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def written(front: Front) -> list[str]:
    """Return what was put, as keys in the store, in order."""
    return [path.partition("s.zarr/")[2].partition("?")[0] for method, path in front.asked if method == "PUT"]


def test_what_is_pushed_and_pulled_is_the_same_to_the_byte(s3, store, url, tmp_path):
    store.write_text({"happy": np.ones(4, np.float32)}, {"schema": 1})
    store.record_failure("broken", "cannot be decoded")
    with store.writer("image.other", "a", {"schema": 9}) as writer:  # whatever streams there are
        writer.append(embedding=np.ones((3, 2), np.float16))
        writer.publish({"split": "train", "notes": []})
    done = push(store.path, url)
    assert done.files == len(content(store.path)) - len(digests(fresh_index(store.storage), ""))
    pulled = pull(url, tmp_path / "p.zarr")
    assert (pulled.bytes, pulled.files) == (done.bytes, done.files)
    assert content(tmp_path / "p.zarr") == content(store.path)
    assert FeatureStore.open(tmp_path / "p.zarr").info() == FeatureStore.open(url).info() == store.info()
    assert (tmp_path / "p.zarr" / INDEX_FILE).exists()


def test_markers_come_after_their_files_and_the_root_and_the_index_last(s3, store, url):
    push(store.path, url)
    order = written(s3)
    assert order[0] == PUSH_NOTE
    assert order[-2:] == [GROUP_FILE, INDEX_FILE]
    for group in ("image/a", "image/b", "labels/a"):
        marker = order.index(f"{group}/{GROUP_FILE}")
        arrays = [place for place, key in enumerate(order) if key.startswith(f"{group}/") and place != marker]
        assert arrays
        assert max(arrays) < marker


def test_only_what_differs_is_brought_over(s3, store, url, tmp_path):
    push(store.path, url)
    pull(url, tmp_path / "p.zarr")
    s3.asked.clear()
    assert push(store.path, url).groups == pull(url, tmp_path / "p.zarr").groups == 0
    assert written(s3) == []

    add(store, "c", "test")
    s3.asked.clear()
    assert push(store.path, url).groups == 2
    about = {key for key in written(s3) if "/c/" not in f"/{key.split('/', 2)[1] if '/' in key else ''}/"}
    assert about == {PUSH_NOTE, INDEX_FILE}
    s3.asked.clear()
    assert pull(url, tmp_path / "p.zarr").groups == 2
    assert not [path for _, path in s3.asked if "/a/" in path or "/b/" in path]
    assert content(tmp_path / "p.zarr") == content(store.path)


def test_of_a_changed_marker_the_files_are_not_sent_again(s3, store, url, tmp_path):
    push(store.path, url)
    pull(url, tmp_path / "p.zarr")
    write_attributes(store.path / "labels" / "a", {**store.marker("labels", "a"), "split": "test"})
    s3.asked.clear()
    push(store.path, url)
    pull(url, tmp_path / "p.zarr")
    assert written(s3) == [PUSH_NOTE, f"labels/a/{GROUP_FILE}", INDEX_FILE]
    assert not [path for _, path in s3.asked if "/c/" in path]
    assert FeatureStore.open(tmp_path / "p.zarr").split("a") == "test"
    assert FeatureStore.open(url).split("a") == "test"


def test_a_shorter_video_leaves_nothing_of_the_longer_one(s3, store, url, tmp_path):
    add(store, "a", frames=200_000)
    push(store.path, url)
    add(store, "a", frames=20)
    push(store.path, url)
    pull(url, tmp_path / "p.zarr")
    assert content(tmp_path / "p.zarr") == content(store.path)
    assert len(FeatureStore.open(url).storage.files("image/a")) == 1 + 6


def test_a_failure_that_was_mended_is_forgotten_there_too(s3, store, url, tmp_path):
    store.record_failure("broken", "cannot be decoded")
    push(store.path, url)
    pull(url, tmp_path / "p.zarr")
    assert FeatureStore.open(url).failed() == {"broken": "cannot be decoded"}
    store.clear_failure("broken")
    add(store, "broken")
    push(store.path, url)
    pull(url, tmp_path / "p.zarr")
    assert FeatureStore.open(url).failed() == FeatureStore.open(tmp_path / "p.zarr").failed() == {}


@pytest.mark.parametrize("fault", ["cut", 500])
def test_a_connection_that_is_cut_in_mid_transfer_is_taken_up_again(fault, s3, store, url, tmp_path, quick_retries):
    s3.first(5, fault, among="/c/0")
    push(store.path, url)
    s3.first(5, fault, among="/c/0")
    pull(url, tmp_path / "p.zarr")
    assert content(tmp_path / "p.zarr") == content(store.path)


def test_a_push_that_was_refused_in_the_middle_goes_on(s3, store, url, tmp_path):
    s3.fault = lambda method, path: 403 if method == "PUT" and "/image/b/embedding/c/" in path else None
    with pytest.raises(StoreError, match="no rights"):
        push(store.path, url)
    before = {key for key in written(s3) if re.fullmatch(r"(image|labels)/\w+/zarr.json", key)}
    s3.fault = lambda method, path: None
    for command in (FeatureStore.open, lambda place: pull(place, tmp_path / "p.zarr")):
        with pytest.raises(StoreError, match="a push is under way, or was cut short; run the same push again"):
            command(url)
    s3.asked.clear()
    push(store.path, url)
    assert before == {"image/a/zarr.json", "labels/a/zarr.json", "labels/b/zarr.json"}
    assert not before & set(written(s3))  # what had arrived whole is not sent again
    pull(url, tmp_path / "p.zarr")
    assert content(tmp_path / "p.zarr") == content(store.path)
    assert FeatureStore.open(url).storage.note() is None


def test_a_reader_never_gets_a_mixture_of_an_old_and_a_new_video(s3, store, url):
    push(store.path, url)
    add(store, "a", "train", seed=99)  # the same sizes, other values
    s3.fault = lambda method, path: 403 if method == "PUT" and path.endswith(f"/image/a/{GROUP_FILE}") else None
    with pytest.raises(StoreError, match="no rights"):
        push(store.path, url)
    between = FeatureStore.open(url)
    with pytest.raises(StoreError, match="half copied, or being changed"):
        between.image("a")
    assert between.image("b").embedding_ND.tobytes() == store.image("b").embedding_ND.tobytes()
    s3.fault = lambda method, path: None
    push(store.path, url)
    assert FeatureStore.open(url).image("a").embedding_ND.tobytes() == store.image("a").embedding_ND.tobytes()


def test_an_older_state_can_be_pushed_over_a_push_that_was_cut_short(s3, store, url, tmp_path):
    push(store.path, url)
    shutil.copytree(store.path, tmp_path / "old.zarr")
    add(store, "a", "train", seed=99)
    s3.fault = lambda method, path: 403 if method == "PUT" and path.endswith(f"/image/a/{GROUP_FILE}") else None
    with pytest.raises(StoreError, match="no rights"):
        push(store.path, url)
    s3.fault = lambda method, path: None
    push(tmp_path / "old.zarr", url)
    pull(url, tmp_path / "p.zarr")
    assert content(tmp_path / "p.zarr") == content(tmp_path / "old.zarr")


def kill_at(command: tuple[str | Path, ...], front: Front, request: int) -> None:
    """Run a command line in a process of its own, and kill it while it waits for the answer to one of its requests."""
    with front.held_at(request) as reached:
        process = subprocess.Popen(
            [sys.executable, "-m", "vaprompt", *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )
        assert reached.wait(60)
        process.kill()
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("request_number", [18, 22])
def test_a_killed_push_or_pull_goes_on_to_the_same_end(request_number, s3, store, url, tmp_path):
    kill_at(("store", "push", store.path, url), s3, request_number)
    with pytest.raises(StoreError, match="push is under way"):
        FeatureStore.open(url)
    push(store.path, url)
    target = tmp_path / "p.zarr"
    kill_at(("store", "pull", url, target), s3, request_number)
    with pytest.raises(StoreError, match="is not whole, as copying or pulling it was not finished; run the command"):
        FeatureStore.open(target)
    begun = FeatureStore.open(target, copying=True)  # whatever videos are there are whole
    for video in begun.done("image"):
        assert begun.image(video).embedding_ND.tobytes() == store.image(video).embedding_ND.tobytes()
    assert set(digests(fresh_index(begun.storage), "")) < set(digests(fresh_index(store.storage), ""))
    pull(url, target)
    assert content(target) == content(store.path)
    assert not [file for file in target.iterdir() if file.name.startswith(".") and file.name != INDEX_FILE]


def overwrite(url: str, key: str, body: bytes) -> None:
    connect(url).put(key, body, hashlib.sha256(body).digest())


def test_an_index_that_is_too_large_is_not_pushed(s3, store, url, tmp_path, monkeypatch):
    push(store.path, url)
    add(store, "c")
    monkeypatch.setattr("vaprompt.store.index.MOST_INDEX", 100)
    push(store.path, url)
    assert INDEX_FILE not in connect(url).files("")
    pull(url, tmp_path / "p.zarr")
    assert FeatureStore.open(tmp_path / "p.zarr").videos() == FeatureStore.open(url).videos() == ["a", "b", "c"]


def test_what_is_missing_or_changed_on_arrival_is_named(s3, store, url, tmp_path):
    push(store.path, url)
    chunk = "image/a/embedding/c/0/0"
    body = bytearray((store.path / chunk).read_bytes())
    body[17] ^= 4
    overwrite(url, chunk, bytes(body))
    with pytest.raises(StoreError, match=rf"{chunk}: is not what was written"):
        pull(url, tmp_path / "p.zarr")
    overwrite(url, chunk, bytes(body[:-1]))
    with pytest.raises(StoreError, match=rf"{chunk}: has {len(body) - 1} bytes instead of {len(body)}"):
        pull(url, tmp_path / "p.zarr")
    connect(url).remove([chunk])
    with pytest.raises(StoreError, match=rf"{chunk}: is missing"):
        pull(url, tmp_path / "p.zarr")
    assert "a" not in FeatureStore.open(tmp_path / "p.zarr", copying=True).done("image")


def test_a_pull_mends_a_damaged_marker(store, tmp_path):
    with web_server(store.path) as front:
        pull(front.url, tmp_path / "p.zarr")
        marker = tmp_path / "p.zarr" / "image" / "a" / GROUP_FILE
        marker.write_bytes(marker.read_bytes()[:-9])
        assert pull(front.url, tmp_path / "p.zarr").groups == 1
    assert content(tmp_path / "p.zarr") == content(store.path)


def test_a_damaged_local_file_is_not_pushed(s3, store, url):
    chunk = store.path / "image" / "b" / "embedding" / "c" / "0" / "0"
    body = bytearray(chunk.read_bytes())
    body[3] ^= 1
    chunk.write_bytes(body)
    with pytest.raises(StoreError, match="image/b/embedding/c/0/0: is not what was written"):
        push(store.path, url)
    assert f"image/b/{GROUP_FILE}" not in written(s3)


def test_a_store_is_not_pushed_or_pulled_over_another(s3, store, url, tmp_path):
    push(store.path, url)
    other = FeatureStore.create(tmp_path / "other.zarr", dataset={**DATASET, "faces": "frames"})
    for refused in (lambda: push(other.path, url), lambda: pull(url, other.path)):
        with pytest.raises(FingerprintError, match="faces"):
            refused()
    elsewise = FeatureStore.create(tmp_path / "elsewise.zarr", dataset=DATASET)
    with elsewise.writer("image", "z", {**IMAGE, "schema": 2}) as writer:
        writer.append(embedding=np.ones((3, 8), np.float16))
        writer.publish({"split": "train", "notes": []})
    for refused in (lambda: push(elsewise.path, url), lambda: pull(url, elsewise.path)):
        with pytest.raises(FingerprintError, match="schema"):
            refused()
    overwrite(f"{url}2", "holiday.jpg", b"...")
    with pytest.raises(TargetError, match="is not empty, and holds no feature store"):
        push(store.path, f"{url}2")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "holiday.jpg").touch()
    with pytest.raises(TargetError, match="exists and is not a feature store"):
        pull(url, tmp_path / "full")


@pytest.mark.parametrize("index", ["old", "new", "none"])
def test_a_store_of_a_newer_format_is_not_pushed_over(index, s3, store, url):
    push(store.path, url)
    for key in (GROUP_FILE, INDEX_FILE) if index == "new" else (GROUP_FILE,):
        newer = re.sub(rb'"format": ?1', b'"format": 2', connect(url).get(key, 10**6))
        assert b'"format": 2' in newer
        overwrite(url, key, newer)
    if index == "none":
        connect(url).remove([INDEX_FILE])
    before = connect(url).files("")
    add(store, "c")
    with pytest.raises(StoreError, match=r"has format 2, vaprompt .* reads format 1; use the vaprompt that made it"):
        push(store.path, url)
    assert connect(url).files("") == before
    assert b'"format": 2' in connect(url).get(GROUP_FILE, 10**6)


def test_another_data_set_is_not_pushed_over_one_that_has_only_begun(s3, store, url, tmp_path):
    s3.fault = lambda method, path: 403 if method == "PUT" and "/c/" in path else None
    with pytest.raises(StoreError, match="no rights"):
        push(store.path, url)
    s3.fault = lambda method, path: None
    other = FeatureStore.create(tmp_path / "other.zarr", dataset={**DATASET, "name": "another"})
    with pytest.raises(FingerprintError, match="name: small here, another asked for"):
        push(other.path, url)


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("https://example.org/s.zarr", "no bucket that can be pushed to; push to s3://"),
        ("hf://datasets/me/s", "hf upload-large-folder"),
        ("file:///tmp/s.zarr", "copy the folder"),
        ("folder/s.zarr", "give a URL"),
        ("s3://no-such-bucket/s.zarr", "in no bucket that exists"),
    ],
)
def test_where_nothing_can_be_pushed_to_is_one_line(target, fault, s3, store):
    with pytest.raises(StoreError, match=re.escape(fault)):
        push(store.path, target)


@pytest.mark.parametrize("name", ["../x", ".hidden", "a b", "x/y", "__x", "zarr.json"])
@pytest.mark.parametrize("where", ["groups", "markers"])
def test_a_forged_index_leads_nowhere(where, name, store, tmp_path):
    from vaprompt.store.layout import digest_of

    served = tmp_path / "served"
    shutil.copytree(store.path, served)
    index = json.loads((served / INDEX_FILE).read_text())
    del index["digest"]
    if where == "groups":
        index["groups"][f"image/{name}"] = "0" * 64
    else:
        index["markers"]["image"][name] = index["markers"]["image"]["a"]
    forged = {**index, "digest": digest_of(index)}
    (served / INDEX_FILE).write_text(json.dumps(forged, sort_keys=True, separators=(",", ":")))
    with web_server(served) as front, pytest.raises(StoreError, match=r"cannot be the name|lists a group"):
        pull(front.url, tmp_path / "p.zarr")


@pytest.mark.parametrize("file", ["../../../escaped", "/etc/escaped", ".aside/x", GROUP_FILE, "embedding/../../x"])
def test_a_forged_marker_leads_nowhere(file, store, tmp_path):
    served = tmp_path / "served"
    shutil.copytree(store.path, served)
    marker = store.marker("image", "a")
    marker["files"][file] = {"bytes": 3, "sha256": "0" * 64}
    write_attributes(served / "image" / "a", marker)
    FeatureStore.open(served).write_index()
    (served / INDEX_FILE).unlink()
    FeatureStore.open(served).write_index()
    with web_server(served) as front, pytest.raises(StoreError, match=r"do not trust this store"):
        pull(front.url, tmp_path / "p.zarr")
    assert not list(tmp_path.rglob("escaped"))


def test_a_store_is_pulled_from_a_web_server_and_pushed_from_a_zip_file(s3, store, url, tmp_path):
    import zipfile

    with web_server(store.path) as front:
        pull(front.url, tmp_path / "p.zarr")
    assert content(tmp_path / "p.zarr") == content(store.path)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as packed:
        for name, body in content(store.path).items():
            packed.writestr(name, body)
    push(tmp_path / "s.zip", url)
    pull(url, tmp_path / "q.zarr")
    assert content(tmp_path / "q.zarr") == content(store.path)
    assert digests(fresh_index(Folder(tmp_path / "q.zarr")), "") == digests(fresh_index(store.storage), "")
