"""Attention is softmax(QK' / sqrt(C)) V, however it is computed, and of each item alone."""

import pytest
import torch

from vaprompt.encoders.attention import FEW, attention, by_products, fused


def parts(items, heads, queries, tokens, channels, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    # As the tower gives them: views of one product, tokens before heads.
    query_BTHC = torch.randn(items, queries, heads, channels, generator=generator)
    key_BTHC, value_BTHC = torch.randn(2, items, tokens, heads, channels, generator=generator).unbind(0)
    return [part.to(dtype).transpose(1, 2) for part in (query_BTHC, key_BTHC, value_BTHC)]


def by_definition(query_BHTC, key_BHTC, value_BHTC):
    query, key, value = (part.double() for part in (query_BHTC, key_BHTC, value_BHTC))
    score = torch.einsum("bhtc,bhsc->bhts", query, key) / query.shape[-1] ** 0.5
    weight = score.exp() / score.exp().sum(-1, keepdim=True)
    return torch.einsum("bhts,bhsc->bthc", weight, value).flatten(2)


@pytest.mark.parametrize("attend", [fused, by_products])
@pytest.mark.parametrize(("queries", "tokens"), [(7, 7), (1, 50), (FEW + 5, FEW + 5), (1, FEW + 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_attention_is_its_definition(attend, queries, tokens, dtype, tolerance):
    given = parts(2, 3, queries, tokens, 8, dtype)
    mixed_BTD = attend(*given)
    assert mixed_BTD.dtype == dtype
    assert mixed_BTD.shape == (2, queries, 24)
    torch.testing.assert_close(mixed_BTD.double(), by_definition(*given), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("tokens", [20, FEW + 3])
def test_large_scores_do_not_overflow(tokens):
    query, key, value = parts(1, 2, tokens, tokens, 8, torch.bfloat16)
    mixed_BTD = by_products(query * 100, key * 100, value)
    assert torch.isfinite(mixed_BTD).all()
    assert mixed_BTD.abs().max() <= value.abs().max()


@pytest.mark.parametrize("tokens", [20, FEW + 3])
def test_an_items_bits_are_its_own(tokens):
    given = parts(3, 2, tokens, tokens, 16, torch.bfloat16)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = by_products(*given)
    turned = by_products(*(part.roll(1, 0) for part in given))
    torch.set_num_threads(threads)
    assert torch.equal(turned, whole.roll(1, 0))


def test_products_are_for_processors_that_multiply_vectors_of_bf16_alone(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert attention(torch.bfloat16, cpu) is by_products
    assert attention(torch.float32, cpu) is fused
    assert attention(torch.bfloat16, torch.device("cuda")) is fused
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert attention(torch.bfloat16, cpu) is fused
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert attention(torch.bfloat16, cpu) is fused
