"""Devices by name."""

import pytest

from vaprompt.devices import DeviceError, pick_device


def test_the_processor_and_whatever_is_there_have_names():
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:x", "", "meta!"])
def test_what_is_no_device_is_refused_without_torchs_list_of_all_that_could_be(name):
    with pytest.raises(DeviceError) as caught:
        pick_device(name)
    assert str(caught.value).startswith(f"--device {name}:")
    assert "is not the name of a device; use auto, cpu, or cuda" in str(caught.value)
