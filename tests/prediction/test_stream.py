"""Predicting while embeddings arrive gives what holding all of them gives, and holds only a few."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.clips import write_clip
from tests.prediction.cheap import Colours, Loudness, cheap_run, use
from vaprompt.extraction.encode_media import encode_media
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.prediction.predict import predict
from vaprompt.prediction.stream import Arriving, used_rows

MEGABYTE = 2**20


def test_streaming_gives_what_holding_everything_gives(monkeypatch, tmp_path):
    sound = np.random.default_rng(0).normal(0, 0.2, (44100 * 9, 1)).clip(-1, 1)
    clip = write_clip(tmp_path / "clip.mp4", times_ms=[*range(0, 4000, 40), *range(4000, 9000, 70)], sound=sound)
    seeing = use(monkeypatch)
    (video,) = predict(Path("run"), [clip], tmp_path / "out", faces="frames").done
    recipe = ExtractRecipe.model_validate(cheap_run(Loudness()).facts["extraction"])
    whole = encode_media(clip, recipe, Colours(), Loudness())
    expected = cheap_run(Loudness()).predict(
        whole.image.embedding_ND,
        whole.image.time_N,
        whole.audio.embedding_WSD,
        whole.audio.end_W,
        whole.frame_time_F,
    )
    np.testing.assert_array_equal(video.time_F, whole.frame_time_F)
    np.testing.assert_allclose(video.value_F2, expected, atol=1e-5)
    assert seeing.encoded < len(video.time_F) / 2, "frames that no window uses need no encoding"


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(0, 2**16))
def test_rows_are_there_as_long_as_they_are_needed(sizes, seed):
    generator = np.random.default_rng(seed)
    rows = np.repeat(np.arange(float(sum(sizes)))[:, None], 2, axis=1)
    arriving, floor = Arriving(iter(np.split(rows, np.cumsum(sizes)[:-1]))), 0
    while floor < len(rows):
        last = int(generator.integers(floor, len(rows)))
        wanted = generator.integers(floor, last + 1, size=6)
        np.testing.assert_array_equal(arriving.take(wanted), rows[wanted])
        floor = int(generator.integers(last + 1, len(rows) + 1))
        arriving.let_go(floor)
    for row in (len(rows), 0):
        with pytest.raises(IndexError):
            arriving.take(np.array([row]))


def test_only_rows_that_are_used_are_numbered():
    used_M, place_WT = used_rows(np.array([[0, 4, 9], [4, 9, 9]]))
    assert used_M.tolist() == [0, 4, 9]
    np.testing.assert_array_equal(used_M[place_WT], [[0, 4, 9], [4, 9, 9]])


@pytest.mark.slow
def test_two_hours_take_no_more_memory_than_two_minutes(tmp_path):
    """The embeddings of all windows would be 7,200 x 4 x 8,192 half-precision numbers: 450 MB."""
    # In a process of its own: what other tests of this one leave behind, or still do, counts in its memory.
    measuring = "import sys; from tests.prediction.test_stream import measure; measure(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", measuring, tmp_path],
        cwd=Path(__file__).parents[2],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    told = json.loads(done.stdout)
    assert told["frames"] == 7200 * 2
    assert told["long"] - told["short"] < 100 * MEGABYTE
    assert told["reached"] == pytest.approx(told["total"])
    assert told["total"] == pytest.approx(7199.5)


def measure(folder: str) -> None:
    """Predict a short and a long video; print how much memory each took, and how far the long one was told to be."""
    progress = _Watched()
    with pytest.MonkeyPatch.context() as patched:
        use(patched, audio=Loudness(steps=4, dim=8192))
        out, lengths = Path(folder) / "out", {"short": 120, "long": 7200}
        told: dict[str, float] = {}
        for name, seconds in lengths.items():
            progress.most = 0
            (video,) = predict(Path("run"), [_long(Path(folder) / f"{name}.mp4", seconds)], out, progress=progress).done
            told[name] = progress.most
    total, reached = progress.tasks["predicting long.mp4"]
    print(json.dumps(told | {"frames": len(video.time_F), "total": total, "reached": reached}))


def _long(path: Path, seconds: int) -> Path:
    """Write tiny pictures, two a second, without sound."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 2)
        picture = av.VideoFrame(32, 32, "yuv420p")
        for number in range(seconds * 2):
            picture.pts, picture.time_base = number, Fraction(1, 2)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


class _Watched:
    """Progress that looks at the process's memory whenever it is told something."""

    def __init__(self) -> None:
        self.most = 0
        self.tasks: dict[str, tuple[float, float]] = {}

    def task(self, name, total=None, unit=""):
        return _WatchedTask(self, name, total)

    def say(self, text: str) -> None:
        raise AssertionError(text)


class _WatchedTask:
    def __init__(self, watched: _Watched, name: str, total: float | None) -> None:
        self.watched, self.name = watched, name
        watched.tasks[name] = (total or 0.0, 0.0)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        pass

    def advance(self, amount: float = 1, note: str = "") -> None:
        total, reached = self.watched.tasks[self.name]
        self.watched.tasks[self.name] = (total, reached + amount)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.watched.most = max(self.watched.most, pages * os.sysconf("SC_PAGE_SIZE"))
