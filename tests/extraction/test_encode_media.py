"""Features belong to the frame and the second that they say, whatever is missing or irregular."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image

from tests.media.clips import write_clip
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.errors import MediaError, WeightsError
from vaprompt.extraction import encode_media as module
from vaprompt.extraction.encode_media import NO_SOUND, encode_media, image_batches, sound_notes
from vaprompt.extraction.grid import audio_ends
from vaprompt.media.audio import audio_windows, has_audio
from vaprompt.media.crops import read_image
from vaprompt.media.video import frame_times, read_frames


@pytest.fixture(scope="module")
def encoders(recipe):
    return image_encoder(recipe.image), audio_encoder(recipe.audio)


def test_each_crop_belongs_to_the_frame_in_its_name(dataset, recipe, encoders):
    """Fault 1: counting files shifts everything after the first missing crop; fault 5: time is the container's."""
    gaps = irregular = 0
    for video in dataset.videos:
        image = encode_media(video.media, recipe, *encoders, crops=video.crops).image
        names = sorted(path.name for path in video.crops.iterdir())
        time_F = frame_times(video.media)
        assert image.frame_N.tolist() == [int(Path(name).stem) for name in names]
        np.testing.assert_array_equal(image.time_N, time_F[image.frame_N - 1])
        for row in (0, len(names) // 2, -1):
            expected_1D = encoders[0].encode(read_image(video.crops / names[row])[None]).numpy()
            np.testing.assert_allclose(image.embedding_ND[row], expected_1D[0], atol=2e-3, rtol=2e-3)
        gaps += len(names) < len(time_F)
        irregular += np.ptp(np.diff(time_F)) > 0.01
    assert gaps > 0
    assert irregular > 0


def test_each_window_of_sound_ends_where_it_says(dataset, recipe, encoders):
    video = next(video for video in dataset.videos if has_audio(video.media))
    features = encode_media(video.media, recipe, *encoders, crops=video.crops)
    end_W = audio_ends(features.frame_time_F[-1], window=2.0, hop=0.7)
    np.testing.assert_array_equal(features.audio.end_W, end_W)
    waves = np.stack(list(audio_windows(video.media, end_W, window=2.0, rate=16000)))
    expected_WSD = encoders[1].encode(torch.from_numpy(waves)).numpy()
    np.testing.assert_allclose(features.audio.embedding_WSD, expected_WSD, atol=2e-3, rtol=2e-3)
    assert features.notes == []


def test_of_several_audio_tracks_it_is_said_which_is_heard(tmp_path):
    one, three = write_clip(tmp_path / "one.mkv", sound=np.zeros((44100, 1))), tmp_path / "three.mkv"
    with av.open(str(one)) as source, av.open(str(three), "w") as target:
        picture, sound = source.streams
        copies = {0: [target.add_stream_from_template(picture)]}
        copies[1] = [target.add_stream_from_template(sound) for _ in range(3)]
        copies[1][0].disposition, copies[1][1].disposition = Disposition.comment, Disposition.default
        for packet in source.demux():
            for copy in copies[packet.stream.index] if packet.size else ():
                packet.stream = copy
                target.mux(packet)
    assert sound_notes(one) == []
    assert sound_notes(three) == ["3 audio tracks: number 2 is heard"]


def test_a_video_without_sound_is_silent_and_says_so(dataset, recipe, encoders):
    video = next(video for video in dataset.videos if not has_audio(video.media))
    features = encode_media(video.media, recipe, *encoders, crops=video.crops)
    assert features.notes == [NO_SOUND]
    silence_1SD = encoders[1].encode(torch.zeros(1, 32_000)).numpy()
    assert len(features.audio.end_W) > 1
    for embedding_SD in features.audio.embedding_WSD:
        np.testing.assert_allclose(embedding_SD, silence_1SD[0], atol=2e-3, rtol=2e-3)


def test_whole_frames_are_read_where_there_are_no_crops(dataset, recipe, encoders):
    media = dataset.videos[0].media
    features = encode_media(media, recipe, *encoders)
    frames = list(read_frames(media))
    assert features.image.frame_N.tolist() == [frame.frame for frame in frames]
    np.testing.assert_array_equal(features.image.time_N, frame_times(media))
    np.testing.assert_array_equal(features.frame_time_F, features.image.time_N)
    expected_1D = encoders[0].encode(frames[7].rgb_HWC[None]).numpy()
    np.testing.assert_allclose(features.image.embedding_ND[7], expected_1D[0], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("faces", ["crops", "frames"])
def test_a_rate_takes_the_nearest_frames(dataset, recipe, encoders, faces):
    video = dataset.videos[0]
    slow = recipe.model_copy(update={"image_rate": 4.0})
    features = encode_media(video.media, slow, *encoders, crops=video.crops if faces == "crops" else None)
    time_F = frame_times(video.media)
    np.testing.assert_array_equal(features.frame_time_F, time_F)
    assert len(features.image.frame_N) == len(np.arange(0, time_F[-1], 0.25))
    np.testing.assert_array_equal(features.image.time_N, time_F[features.image.frame_N - 1])
    assert np.max(np.abs(features.image.time_N - np.arange(len(features.image.time_N)) / 4)) < 0.2
    every = encode_media(video.media, recipe, *encoders, crops=video.crops if faces == "crops" else None).image
    rows = np.searchsorted(every.frame_N, features.image.frame_N)
    np.testing.assert_allclose(features.image.embedding_ND, every.embedding_ND[rows], atol=2e-3, rtol=2e-3)


def test_large_pictures_go_in_smaller_batches(dataset, recipe, encoders, monkeypatch):
    video = dataset.videos[0]
    monkeypatch.setattr(module, "BATCH_BYTES", 3 * 112 * 112 * 3)
    batches = list(image_batches(video.media, recipe, encoders[0], crops=video.crops, time_F=frame_times(video.media)))
    assert {len(batch.frame_N) for batch in batches[:-1]} == {3}


def test_crops_of_several_sizes_are_encoded(dataset, recipe, encoders, tmp_path):
    video = dataset.videos[0]
    crops = tmp_path / "crops"
    crops.mkdir()
    for frame, side in ((1, 112), (2, 112), (5, 90), (6, 112)):
        Image.new("RGB", (side, side), (frame * 20, 90, 90)).save(crops / f"{frame:05d}.jpg")
    image = encode_media(video.media, recipe, *encoders, crops=crops).image
    assert image.frame_N.tolist() == [1, 2, 5, 6]


def test_crops_that_cannot_belong_to_the_video_are_refused(dataset, recipe, encoders, tmp_path):
    video = dataset.videos[0]
    frames = len(frame_times(video.media))
    crops = tmp_path / "crops"
    crops.mkdir()
    with pytest.raises(MediaError, match="holds no face crop"):
        encode_media(video.media, recipe, *encoders, crops=crops)
    some = next(iter(video.crops.iterdir()))
    shutil.copy(some, crops / "00001.jpg")
    shutil.copy(some, crops / f"{frames + 5:05d}.jpg")
    assert encode_media(video.media, recipe, *encoders, crops=crops).image.frame_N.tolist() == [1]
    shutil.copy(some, crops / f"{frames + 50:05d}.jpg")
    with pytest.raises(MediaError, match=f"crops up to frame {frames + 50}, but .* has {frames} frames"):
        encode_media(video.media, recipe, *encoders, crops=crops)


@pytest.mark.parametrize("value", [np.inf, np.nan, 7e4])
def test_values_beyond_float16_are_an_error_and_not_infinite(dataset, recipe, encoders, value):
    class Loud:
        dim, fingerprint = 2, {}

        def encode(self, image_BHWC):
            return torch.full((len(image_BHWC), 2), value)

        def encode_text(self, texts):
            return torch.zeros(len(texts), 2)

    with pytest.raises(WeightsError, match="float16"):
        encode_media(dataset.videos[0].media, recipe, Loud(), encoders[1])


def test_real_clips_are_encoded_frame_by_frame(clips, recipe, encoders):
    slow = recipe.model_copy(update={"image_rate": 1.0})
    for media in sorted(path for path in clips.iterdir() if path.suffix in (".mp4", ".mov")):
        features = encode_media(media, slow, *encoders)
        time_F = features.frame_time_F
        assert np.all(np.diff(time_F) > 0)
        assert len(features.image.time_N) == int(np.floor(time_F[-1])) + 1
        assert features.audio.end_W[0] <= 0
        assert np.all(np.isfinite(features.audio.embedding_WSD))
        assert features.notes == ([] if has_audio(media) else [NO_SOUND])
