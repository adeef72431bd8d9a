"""Damaged videos, sound and pictures, written small and read in processes of their own."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fuzz.mutate import Mutation, boxes, chunks, elements, flip_bits_in_head, mutants, segments
from tests.fuzz.run import TIMES, run
from tests.media.clips import write_clip

MEMORY = 2**29
"""Bytes that reading one damaged file may take at most, Python and all libraries included."""
SEED = 20240611


def _video(path: Path, **how) -> Path:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (16000, 2))
    return write_clip(path, times_ms=range(0, 1000, 100), sound=sound, sound_rate=16000, **how)


def _wav(path: Path) -> Path:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(np.random.default_rng(0).bytes(32000))
    return path


def _picture(path: Path, **how) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC).save(path, **how)
    return path


def _exif(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x0128] = 6, 72.0, 2
    return _picture(path, exif=exif, comment=b"a comment", progressive=True)


KINDS = {
    "mp4": (_video, "media", boxes, 200),
    "wav": (_wav, "media", chunks, 200),
    "jpg": (_picture, "pictures", segments, 200),
    # Not asked for, but read too; the sound of this avi is a wav's, header and all.
    "avi": (lambda path: _video(path, video="mpeg4", audio="pcm_s16le"), "media", chunks, 100),
    "mkv": (_video, "media", elements, 60),
    "ts": (_video, "media", flip_bits_in_head, 40),
    "flv": (_video, "media", flip_bits_in_head, 40),
    "mpg": (lambda path: _video(path, video="mpeg1video", audio="mp2"), "media", flip_bits_in_head, 40),
    "webm": (lambda path: _video(path, video="libvpx", audio="libopus"), "media", elements, 40),
    "progressive.jpg": (_exif, "pictures", segments, 100),
    "png": (_picture, "pictures", segments, 100),
}


def _written(folder: Path, kind: str, count: int, own: Mutation, sample: Path) -> list[Path]:
    files = []
    for number, mutant in enumerate(mutants(sample.read_bytes(), own, count, SEED)):
        files.append(folder / f"{number:05d}.{kind}")
        files[-1].write_bytes(mutant)
    return files


def _check(tmp_path: Path, kind: str, times: int) -> None:
    write, entries, own, count = KINDS[kind]
    sample = write(tmp_path / f"whole.{kind}")
    files = _written(tmp_path, kind, times * count, own, sample)
    found = run(entries, [sample, *files])
    print(
        f"{kind}: {len(files)} files, {found.read} results, {found.refused} refusals, {len(found.given_up)} given up, "
        f"peak {found.peak / 2**20:.0f} MiB, slowest {found.slowest:.2f} s"
    )
    assert not found.faults, "\n".join(found.faults)[:20_000]
    assert found.peak < MEMORY
    assert found.read > 0, "not even the whole file was read"
    assert found.refused > len(files) / 20, "the damage does none"


@pytest.mark.parametrize(
    "kind", [kind if kind in ("mp4", "jpg", "wav") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_damaged_media_end_in_a_result_or_one_line(tmp_path, kind):
    _check(tmp_path, kind, TIMES)
