"""The rearranged transformers are open_clip's and transformers' own, and an item's bits are its own alone."""

import numpy as np
import open_clip
import pytest
import torch

from vaprompt.encoders import clip, tower
from vaprompt.encoders.clip import OpenClipEncoder
from vaprompt.encoders.pieces import InPieces, piece_size
from vaprompt.encoders.processor import packs, spacing
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.lanes import Lanes, start_threads

SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 128, "layers": 3, "head_width": 32},
    "text_cfg": {"width": 32, "heads": 2, "layers": 1, "vocab_size": 259, "context_length": 16},
}


def small(quick: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    return open_clip.CLIP(**SMALL, quick_gelu=quick).eval()


@torch.no_grad()
@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rearranged_vision_transformer_is_open_clips_own(quick, dtype):
    network = small(quick)
    for parameter in network.visual.parameters():  # biases are zero at the start, and would hide a missing one
        parameter.add_(0.02 * torch.randn_like(parameter))
    input_BCSS = torch.randn(3, 3, 64, 64)
    expected_BD = network.encode_image(input_BCSS)
    ours_BD = clip._Sight.of(network.visual, dtype)(input_BCSS.to(dtype)).float()
    cosine = torch.nn.functional.cosine_similarity(ours_BD, expected_BD).min()
    assert cosine > (0.999999 if dtype == torch.float32 else 0.999)
    if dtype == torch.float32:
        torch.testing.assert_close(ours_BD, expected_BD, atol=2e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("first_only", [False, True])
def test_channels_that_keep_rows_apart_change_nothing(monkeypatch, first_only):
    torch.manual_seed(0)
    layers = [tower.clip_parts(block) for block in small(True).visual.transformer.resblocks]
    token_BTD = torch.randn(2, 50, 128)
    expected = tower.Tower(layers, 4, torch.float32, first_only=first_only)(token_BTD)
    asked = []
    monkeypatch.setattr(tower, "spacing", lambda channels, dtype, device: asked.append(channels) or 32)
    spaced = tower.Tower(layers, 4, torch.float32, first_only=first_only)(token_BTD)
    assert set(asked) == {384, 512, *([256] if first_only else [])}
    assert spaced.shape == expected.shape == (2, 1 if first_only else 50, 128)
    torch.testing.assert_close(spaced, expected, atol=1e-5, rtol=1e-5)


def test_rows_are_kept_apart_by_an_odd_number_of_lines_where_there_are_tiles(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert [spacing(channels, torch.bfloat16, cpu) for channels in (3072, 2304, 64, 96, 100)] == [32, 32, 32, 0, 0]
    assert spacing(3072, torch.float32, cpu) == 0
    assert spacing(3072, torch.bfloat16, torch.device("cuda")) == 0
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert spacing(3072, torch.bfloat16, cpu) == 0


def test_other_image_encoders_are_left_to_open_clip():
    torch.manual_seed(0)
    unlike = {**SMALL, "vision_cfg": {**SMALL["vision_cfg"], "ls_init_value": 0.1}}
    assert clip._Sight.of(open_clip.CLIP(**unlike).visual, torch.float32) is None
    pooled = {**SMALL, "vision_cfg": {**SMALL["vision_cfg"], "pool_type": "avg"}}
    assert clip._Sight.of(open_clip.CLIP(**pooled).visual, torch.float32) is None


def bits_are_each_items_own(encode, batch):
    whole = encode(batch)
    for size in (1, 2, 3, 5):
        parts = [encode(batch[start : start + size]) for start in range(0, len(batch), size)]
        assert torch.equal(torch.cat(parts), whole)
    turned = np.roll(batch, 3, axis=0) if isinstance(batch, np.ndarray) else batch.roll(3, 0)
    assert torch.equal(encode(turned), whole.roll(3, 0))


def test_the_bits_of_a_miniatures_embedding_are_its_own():
    image_BHWC = np.random.default_rng(0).integers(0, 256, (11, 90, 100, 3), dtype=np.uint8)
    bits_are_each_items_own(image_encoder(ImageEncoderRecipe(model="embedded", weights="embedded")).encode, image_BHWC)
    wave_BL = torch.randn(5, 160_000, generator=torch.Generator().manual_seed(0)) * 0.1
    bits_are_each_items_own(audio_encoder(AudioEncoderRecipe(model="embedded", weights="embedded")).encode, wave_BL)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", *(["bf16"] if packs(torch.bfloat16, torch.device("cpu")) else [])])
def test_the_bits_of_a_full_size_embedding_are_its_own(precision):
    image_BHWC = np.random.default_rng(0).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)
    bits_are_each_items_own(
        image_encoder(ImageEncoderRecipe(weights="random:0", precision=precision)).encode, image_BHWC
    )
    wave_BL = torch.randn(4, 160_000, generator=torch.Generator().manual_seed(0)) * 0.1
    bits_are_each_items_own(audio_encoder(AudioEncoderRecipe(weights="random:0", precision=precision)).encode, wave_BL)


def test_a_network_for_which_the_place_in_a_batch_matters_sees_one_item_at_a_time():
    place = torch.arange(4.0)[:, None]
    assert piece_size(lambda item_BD: item_BD + place[: len(item_BD)], torch.randn(4, 2)) == 1
    assert piece_size(lambda item_BD: item_BD * 2, torch.randn(4, 2)) == 4


def test_pieces_are_filled_up_and_cut_again():
    seen = []

    def network(item_BD):
        seen.append(len(item_BD))
        return item_BD + 1

    batch = torch.arange(14.0).reshape(7, 2)
    torch.testing.assert_close(InPieces(network, torch.device("cpu"), piece=3)(batch), batch + 1)
    assert seen == [3, 3, 3]


@pytest.mark.parametrize(("compiled", "sizes"), [(None, [7]), (7, [7]), (3, [3, 3, 3]), (16, [16])])
def test_on_accelerators_batches_go_whole_or_in_the_size_that_the_network_is_compiled_for(compiled, sizes):
    seen = []

    def network(item_BD):
        seen.append(len(item_BD))
        return item_BD + 1

    run = InPieces(network, torch.device("cpu"), piece=1, compiled=compiled)
    run._in_lanes = False
    batch = torch.arange(14.0).reshape(7, 2)
    assert torch.equal(run(batch), batch + 1)
    assert seen == sizes


def test_a_batch_that_a_device_does_not_fetch_from_pinned_memory_is_waited_for(monkeypatch):
    sent, to = [], torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, *there, **how: sent.append(how.get("non_blocking")) or to(tensor, *there)
    )
    run = InPieces(lambda item_BD: item_BD + 1, torch.device("meta"), piece=1)
    assert run(torch.ones(3, 2)).device.type == "meta"
    assert sent == [False]


@pytest.mark.parametrize("recipe", [ImageEncoderRecipe, AudioEncoderRecipe])
def test_networks_are_compiled_for_one_size_where_it_is_asked_for(recipe):
    assert recipe().compiled_for is None
    assert recipe(compile=True, batch=7).compiled_for == 7
    assert recipe(compile=True).compiled_for > 1


def test_threads_that_compute_alone_leave_the_others_as_they_were():
    before, inside = torch.get_num_threads(), []
    assert Lanes(2).map(lambda _: torch.get_num_threads(), range(6)) == [1] * 6
    for thread in start_threads(lambda: inside.append(torch.get_num_threads()), 2, "some"):
        thread.join()
    assert inside == [1, 1]
    assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_the_tower_takes_over_the_weights():
    """Weights are kept once: the network's own are let go."""
    encoder = OpenClipEncoder(ImageEncoderRecipe(model="ViT-B-32", weights="random:0"))
    assert not list(encoder._network.visual.parameters())
