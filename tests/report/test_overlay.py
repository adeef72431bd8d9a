"""A prediction as a video: each frame when the source shows it, what is known drawn beside it, the sound kept."""

from pathlib import Path

import av
import numpy as np
import pytest
from jaxtyping import Float, UInt8
from PIL import ImageColor

from tests.media.clips import grey, write_clip, write_wav
from tests.report.predictions import predicted
from vaprompt.errors import MediaError, TargetError
from vaprompt.media.audio import sound_pieces
from vaprompt.media.video import frame_times
from vaprompt.prediction.predict import PredictedVideo
from vaprompt.regions import RegionRecipe
from vaprompt.report.footage import Footage
from vaprompt.report.overlay import MOST_PEOPLE, Overlay, require_overlay, write_overlay
from vaprompt.report.overlay.brush import PEOPLE, REGION, Box
from vaprompt.report.overlay.layout import HEIGHT, WIDTH, layout
from vaprompt.report.prediction_page import Screening
from vaprompt.report.screening import screen

TIMES = tuple(int(time) for time in np.cumsum([0, *[33, 67] * 9]))
TIME_F = np.array(TIMES) / 1000
EVEN_F = np.arange(50) / 25


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", times_ms=TIMES, size=(320, 240))


def shown(*people: PredictedVideo, regions: RegionRecipe | None = None) -> Screening:
    return screen(people, regions or RegionRecipe(), Footage(), about={})


def within(picture: UInt8[np.ndarray, "H W 3"], box: Box) -> UInt8[np.ndarray, "H W 3"]:
    return picture[box.top : box.top + box.height, box.left : box.left + box.width]


def coloured(picture: UInt8[np.ndarray, "H W 3"], colour: str = PEOPLE[0]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels of a colour."""
    wanted = np.array(ImageColor.getrgb(colour))
    return np.nonzero((np.abs(picture.astype(int) - wanted) <= 6).all(axis=2))


def sound_of(path: Path) -> Float[np.ndarray, "L"]:
    wave = np.zeros(3 * 16000, np.float32)
    for position, piece_L in sound_pieces(path):
        first, last = max(position, 0), min(position + len(piece_L), len(wave))
        if first < last:
            wave[first:last] = piece_L[first - position : last - position]
    return wave


def test_each_frame_is_shown_when_the_video_shows_it(clip: Path, tmp_path: Path):
    target = tmp_path / "new" / "overlay.mp4"
    screening = shown(predicted(clip, TIME_F, whole=True))
    assert write_overlay(screening, target) == target.stat().st_size
    np.testing.assert_allclose(frame_times(target), frame_times(clip), atol=2e-5)
    box = layout(320 / 240).video
    with av.open(str(target)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.width, video.height) == ("h264", WIDTH, HEIGHT)
        assert not container.streams.audio
        for number, decoded in enumerate(container.decode(video=0), start=1):
            film = within(decoded.to_ndarray(format="rgb24"), box)
            assert film[100:-20, 100:-20].mean() == pytest.approx(grey(number), abs=4)
    again = tmp_path / "again.mp4"
    write_overlay(screening, again)
    assert again.read_bytes() == target.read_bytes()
    assert sorted(path.name for path in target.parent.iterdir()) == ["overlay.mp4"]


@pytest.mark.parametrize("start", [-0.3, 0.5])
def test_the_sound_is_kept_at_its_place_with_its_channels(start: float, tmp_path: Path):
    time = np.arange(int(1.2 * 44100)) / 44100
    left = 0.5 * np.sin(2 * np.pi * (300 + 200 * time) * time)
    sound = np.stack((left, 0 * left), axis=1).astype(np.float32)
    clip = write_clip(tmp_path / "clip.mp4", times_ms=range(500, 2500, 200), sound=sound, sound_start=0.5 + start)
    target = tmp_path / "overlay.mp4"
    write_overlay(shown(predicted(clip, EVEN_F[::5], whole=True)), target)
    expected, found = sound_of(clip), sound_of(target)
    assert np.abs(expected).max() > 0.2
    assert np.corrcoef(expected, found)[0, 1] > 0.99
    with av.open(str(target)) as container:
        (stereo,) = container.streams.audio
        assert (stereo.codec_context.name, stereo.rate, stereo.channels) == ("aac", 44100, 2)
        loud = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1).std(axis=1)
    assert loud[0] > 20 * loud[1]


@pytest.mark.parametrize("samples", [0, 4410])
def test_a_sound_of_no_or_little_length_is_no_obstacle(samples: int, tmp_path: Path):
    clip = write_clip(tmp_path / "clip.mov", times_ms=range(0, 400, 40), sound=np.ones((samples, 1), np.float32) / 2)
    target = tmp_path / "overlay.mp4"
    write_overlay(shown(predicted(clip, np.arange(10) / 25, whole=True)), target)
    assert len(frame_times(target)) == 10


def test_a_point_is_right_where_valence_is_high_and_up_where_arousal_is(clip: Path):
    video = predicted(clip, EVEN_F, whole=True)
    video.value_F2[:] = 0
    for index, corner in enumerate([(-1, -1), (1, 1), (0, 0), (1, -1)]):
        video.value_F2[index * 10] = corner
    places = []
    for index in (0, 10, 20, 30):
        overlay = Overlay(shown(video))
        rows, columns = coloured(within(overlay.draw(np.zeros((24, 32, 3), np.uint8), index), overlay.places.plane))
        # The point is by far the largest patch of its colour.
        places.append((np.median(columns), np.median(rows)))
    low, high, middle, right = np.array(places)
    np.testing.assert_allclose(middle, (low + high) / 2, atol=1.5)
    assert high[0] - low[0] == pytest.approx(low[1] - high[1], abs=2)
    assert high[0] - low[0] > 200
    np.testing.assert_allclose(right, (high[0], low[1]), atol=1.5)


def test_bars_are_as_long_as_regions_are_likely(clip: Path):
    video = predicted(clip, EVEN_F, whole=True)
    video.windows.region_WK[:] = 0
    video.windows.region_WK[0, 3] = 1
    video.windows.region_WK[1:, 3] = 0.5
    video.windows.region_WK[1:, 0] = 0.2
    overlay = Overlay(shown(video))
    lengths = []
    for time in (0.0, 0.25, 0.5):
        picture = overlay.draw(np.zeros((24, 32, 3), np.uint8), int(np.searchsorted(EVEN_F, time)))
        rows, columns = coloured(within(picture, overlay.places.regions))
        assert rows.min() > 3 / 9 * overlay.places.regions.height
        assert rows.max() < 4 / 9 * overlay.places.regions.height
        lengths.append(np.ptp(columns))
    share = np.interp(EVEN_F[np.searchsorted(EVEN_F, 0.25)], [0, 0.5], [1, 0.5])
    assert lengths == pytest.approx([lengths[0], share * lengths[0], lengths[0] / 2], abs=2)


@pytest.mark.parametrize(("side", "first", "second"), [(5, (7, 25), (3, 25)), (9, (0, 356 / 18), (1, 356 / 18))])
def test_regions_of_any_grid_are_named_beside_their_bars(
    clip: Path, side: int, first: tuple[int, float], second: tuple[int, float]
):
    grid = tuple(np.linspace(-0.9, 0.9, side).tolist())
    phrases = [f"face {number}" for number in range(side**2)]
    regions = RegionRecipe(valence=grid, arousal=grid, phrases=phrases)
    video = predicted(clip, EVEN_F, whole=True, regions=side**2)
    video.windows.region_WK[:] = 0
    video.windows.region_WK[:, [7, 3]] = 0.6, 0.4
    pictures = []
    for named in (phrases, [*phrases[:7], "another", *phrases[8:]]):
        overlay = Overlay(shown(video, regions=regions.model_copy(update={"phrases": named})))
        pictures.append(within(overlay.draw(np.zeros((24, 32, 3), np.uint8), 0), overlay.places.regions))
    height = overlay.places.regions.height
    rows, _ = coloured(pictures[0])
    place, count = first
    assert int(rows.min() / height * count) == int(rows.max() / height * count) == place
    # The phrase stands in the row of its bar; the number of each stands before it.
    changed = np.nonzero((pictures[0] != pictures[1]).any(axis=(1, 2)))[0]
    assert place - 0.2 <= changed.min() / height * count < changed.max() / height * count <= place + 1.2
    numbers, _ = coloured(pictures[0][:, :28], REGION)
    for place, count in (first, second):
        assert (np.abs(numbers / height * count - place - 0.5) < 0.5).any()


def test_a_face_has_its_box_while_it_is_there(clip: Path):
    first = predicted(clip, EVEN_F, number=1, several=True)
    second = predicted(clip, EVEN_F, number=2, several=True, gone=(0.5, 1.0))
    overlay = Overlay(shown(first, second))
    box = overlay.places.video
    for index, seen in ((10, True), (20, False)):
        film = within(overlay.draw(np.full((240, 320, 3), 40, np.uint8), index), box)
        for video, colour, there in ((first, PEOPLE[0], True), (second, PEOPLE[1], seen)):
            rows, columns = coloured(film, colour)
            assert bool(len(rows)) == there
            if there:
                assert video.track is not None
                x, y, size, angle = video.track.placement(EVEN_F[index])
                reach = np.exp(size) * (abs(np.cos(angle)) + abs(np.sin(angle))) / 2
                ends = np.array([x - reach, x + reach]) * box.width
                np.testing.assert_allclose([columns.min(), columns.max()], ends, atol=3)
                assert rows.max() == pytest.approx((y + reach) * box.width, abs=3)


def test_any_number_of_people_and_regions_and_every_shape_is_drawn(tmp_path: Path):
    sizes = {"portrait": (240, 426), "square": (64, 64), "strip": (640, 32), "tower": (32, 640)}
    grid = tuple(np.linspace(-1, 1, 9))
    regions = RegionRecipe(valence=grid, arousal=grid, phrases=["\x00</b>\n" + "long " * 3000] * 81)
    for name, size in sizes.items():
        clip = write_clip(tmp_path / f"{name}.mp4", times_ms=range(0, 200, 40), size=size)
        people = [predicted(clip, np.arange(5) / 25, number=n, several=True) for n in range(1, MOST_PEOPLE + 3)]
        overlay = Overlay(shown(*people, regions=regions))
        for part in (overlay.places.video, overlay.places.regions, overlay.places.traces, overlay.places.people):
            assert part.left >= 0
            assert part.left + part.width <= WIDTH
            assert part.top + part.height <= HEIGHT
        assert overlay.draw(np.zeros((*size[::-1], 3), np.uint8), 4).shape == (HEIGHT, WIDTH, 3)


def test_what_cannot_be_written_is_refused_in_a_line(clip: Path, tmp_path: Path):
    with pytest.raises(TargetError, match=r"'\.gif' is no suffix of an H\.264 video; name a \.mp4 file"):
        require_overlay(tmp_path / "a.gif", [clip])
    with pytest.raises(TargetError, match="is the video that is read"):
        require_overlay(tmp_path / "." / "clip.mp4", [clip])
    with pytest.raises(TargetError, match="is one video, and 2 are given"):
        require_overlay(tmp_path / "a.mp4", [clip, clip])
    with pytest.raises(MediaError, match="holds sound alone, and an overlay is a video"):
        require_overlay(tmp_path / "a.mp4", [write_wav(tmp_path / "voice.wav", np.zeros(1000))])
    # What cannot be read at all is told of when it is predicted, as without an overlay.
    require_overlay(tmp_path / "a.mp4", [tmp_path / "missing.mp4"])
    (tmp_path / "file").write_text("in the way")
    screening = shown(predicted(clip, TIME_F, whole=True))
    with pytest.raises(TargetError, match="cannot be"):
        write_overlay(screening, tmp_path / "file" / "a.mp4")
    clip.write_bytes(write_clip(tmp_path / "longer.mp4").read_bytes())
    with pytest.raises(MediaError, match="has changed since it was predicted"):
        write_overlay(screening, tmp_path / "a.mp4")
    assert not list(tmp_path.glob("*a.mp4*"))
