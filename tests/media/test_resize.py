"""The batched transform is open_clip's own, picture by picture."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image

from vaprompt.media import resize
from vaprompt.media.resize import preprocess

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)


def picture(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def difference(image_HWC, size):
    """Return the differences to open_clip's PIL transform in steps of 1/255 of each channel."""
    expected = image_transform(size, is_train=False, mean=CLIP_MEAN, std=CLIP_STD)(Image.fromarray(image_HWC))
    ours = preprocess(torch.from_numpy(image_HWC)[None], size=size, mean=CLIP_MEAN, std=CLIP_STD)[0]
    assert ours.shape == expected.shape
    return ((ours - expected) * torch.tensor(CLIP_STD).view(3, 1, 1) * 255).abs()


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (112, 112, 224),
        (360, 640, 224),
        (640, 361, 224),
        (480, 480, 224),
        (144, 176, 112),
        (112, 112, 112),
        (50, 51, 64),
    ],
)
def test_parity_with_open_clip(height, width, size):
    steps = difference(picture(height, width), size)
    # Pillow and torch round their fixed-point weights a little differently, in each of the two directions.
    assert steps.max() <= 2.01
    assert steps.mean() < 0.02


@settings(max_examples=25)
@given(
    height=st.integers(8, 300), width=st.integers(8, 300), size=st.sampled_from([32, 112, 224]), seed=st.integers(0, 9)
)
def test_parity_for_any_shape(height, width, size, seed):
    assert difference(picture(height, width, seed), size).max() <= 2.01


def test_a_batch_is_its_pictures_one_by_one():
    image_BHWC = torch.from_numpy(np.stack([picture(90, 120, seed) for seed in range(3)]))
    whole = preprocess(image_BHWC, size=64, mean=CLIP_MEAN, std=CLIP_STD)
    alone = torch.cat([preprocess(image_BHWC[i : i + 1], size=64, mean=CLIP_MEAN, std=CLIP_STD) for i in range(3)])
    torch.testing.assert_close(whole, alone, atol=0, rtol=0)
    assert whole.is_contiguous(memory_format=torch.channels_last), "on the processor"


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@settings(max_examples=25)
@given(
    height=st.integers(8, 300),
    width=st.integers(8, 300),
    high=st.integers(8, 224),
    wide=st.integers(8, 224),
    seed=st.integers(0, 9),
)
def test_what_accelerators_do_is_pillows_resizing(mode, height, width, high, wide, seed):
    image_HWC = picture(height, width, seed)
    expected = np.array(Image.fromarray(image_HWC).resize((wide, high), Image.Resampling[mode.upper()]), np.int32)
    image_BCHW = torch.from_numpy(image_HWC)[None].permute(0, 3, 1, 2)
    ours = resize._resize_by_products(image_BCHW, high, wide, mode)[0].permute(1, 2, 0).numpy()
    # Pillow's weights are fixed-point numbers: where a sum is nearly half a step, it may fall to the other side.
    assert np.abs(ours - expected).max() <= 2
    assert np.abs(ours - expected).mean() < 0.2


def test_accelerators_make_of_a_crop_what_pillow_makes_of_it():
    image_HWC = picture(112, 112)
    expected = np.array(Image.fromarray(image_HWC).resize((224, 224), Image.Resampling.BICUBIC))
    ours = resize._resize_by_products(torch.from_numpy(image_HWC)[None].permute(0, 3, 1, 2), 224, 224)
    np.testing.assert_array_equal(ours[0].permute(1, 2, 0).numpy(), expected)


def test_the_mean_and_std_are_those_asked_for():
    """Fault 7: CLIP gets CLIP's normalisation; ImageNet's differs by far more than rounding."""
    image_BHWC = torch.full((1, 64, 64, 3), 128, dtype=torch.uint8)
    ours = preprocess(image_BHWC, size=64, mean=CLIP_MEAN, std=CLIP_STD)[0, :, 0, 0]
    expected = (128 / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    imagenet = preprocess(image_BHWC, size=64, mean=IMAGENET_MEAN, std=(0.229, 0.224, 0.225))[0, :, 0, 0]
    assert (ours - imagenet).abs().max() > 0.05
