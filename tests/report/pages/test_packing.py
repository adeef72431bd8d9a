"""What a page's script reads is what was packed, to the resolution that is promised."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browsing import Tab
from tests.report.pages.small import write_small
from vaprompt.report.pages import packing


@pytest.fixture
def read(tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return what reads packed arrays as a page's script does."""

    def unpack(**packed: Any) -> dict[str, np.ndarray]:
        page = write_small(monkeypatch, tmp_path / "page.html", "<p>numbers</p>", data={"packed": packed})
        tab.open(page)
        found = tab.chrome.execute_async_script(
            "const done = arguments[0];"
            "Data.unpackAll(Data.block('packed')).then((all) => done(JSON.stringify("
            "Object.fromEntries(Object.entries(all).map(([name, numbers]) => [name, Array.from(numbers)])))));"
        )
        return {
            name: np.array([np.nan if item is None else item for item in row])
            for name, row in json.loads(found).items()
        }

    return unpack


def test_arrays_arrive_as_they_were_packed(read):
    random = np.random.default_rng(3)
    wave_N = np.sin(np.arange(5000) / 40) * 0.999
    jumps_N = random.uniform(-1, 1, 5000)
    jumps_N[::7] = np.nan
    jumps_N[[1, 2, 3]] = 1.0, -1.0, 1.0
    beyond_N = np.array([-9.0, 9.0, 2.5])
    cells = random.random((7, 5, 3))
    whole = np.array([[0, 1], [2**32 - 1, 12345]])
    even_F = 0.04 * np.arange(1000) + 2
    uneven_F = np.cumsum(random.uniform(0.01, 0.07, 3000)) + 100_000
    found = read(
        wave=packing.series(wave_N),
        jumps=packing.series(jumps_N),
        beyond=packing.series(beyond_N, 3.0),
        cells=packing.shares(cells),
        whole=packing.counts(whole),
        even=packing.times(even_F),
        uneven=packing.times(uneven_F),
        single=packing.times(np.zeros(1)),
        nothing=packing.series(np.zeros(0)),
    )
    step = 1 / packing.STEPS
    np.testing.assert_allclose(found["wave"], wave_N, atol=step / 2 + 1e-12)
    np.testing.assert_array_equal(np.isnan(found["jumps"]), np.isnan(jumps_N))
    np.testing.assert_allclose(found["jumps"], jumps_N, atol=step / 2 + 1e-12)
    np.testing.assert_allclose(found["beyond"], [-3, 3, 2.5], atol=3 * step)
    np.testing.assert_allclose(found["cells"], cells.ravel(), atol=0.5 / 255 + 1e-9)
    np.testing.assert_array_equal(found["whole"], whole.ravel())
    np.testing.assert_allclose(found["even"], even_F, atol=1e-9)
    np.testing.assert_allclose(found["uneven"], uneven_F, atol=packing.TICK)
    assert found["single"].tolist() == [0]
    assert len(found["nothing"]) == 0


def test_even_times_take_no_room_and_uneven_ones_keep_every_frame():
    even = packing.times(np.arange(47_435) / 29.97)
    assert len(json.dumps(even)) < 100
    gap_F = np.concatenate((np.arange(100) / 30, 10 + np.arange(100) / 30))
    assert "data" in packing.times(gap_F)


def test_a_smooth_series_packs_to_a_fraction_of_its_bytes():
    wave_N = np.interp(np.arange(30_000), np.arange(0, 30_001, 90), np.sin(np.arange(334)))
    assert len(packing.series(wave_N)["data"]) < 0.25 * 30_000 * 4 / 3 * 2


def test_no_peak_is_lost_where_many_values_share_a_pixel(tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    tab.open(write_small(monkeypatch, tmp_path / "page.html", "<p>peaks</p>"))
    for count, columns in ((47_435, 300), (300, 300), (20, 300), (1, 3)):
        numbers = np.random.default_rng(count).normal(size=count)
        numbers[count // 2] = 40
        low, high = tab.script(
            "const {low, high} = Data.extremes(Float64Array.from(arguments[0]), arguments[1]);"
            "return [[...low], [...high]].map((row) => row.map((x) => Number.isNaN(x) ? null : x));",
            numbers.tolist(),
            columns,
        )
        column = np.arange(count) * columns // count
        for index in range(columns):
            inside = numbers[column == index]
            if len(inside):
                assert low[index] == pytest.approx(inside.min(), rel=1e-6)
                assert high[index] == pytest.approx(inside.max(), rel=1e-6)
            else:
                assert low[index] is high[index] is None


def test_stretches_of_a_flag():
    flag = np.array([1, 1, 0, 0, 1, 0, 1], bool)
    assert packing.spans(flag) == [0, 2, 4, 5, 6, 7]
    assert packing.spans(np.zeros(4, bool)) == []
