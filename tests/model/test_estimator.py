"""The estimator: what trains what, shapes for every variant, and each formula against a reference of its own."""

import math

import numpy as np
import pytest
import torch

from vaprompt.model.estimator import Estimator, ModelRecipe
from vaprompt.model.fusion import Fusion, FusionRecipe, GatedFusion, MultiheadAttention
from vaprompt.model.prompts import ClipRegionHead, FusedRegionHead, PromptRecipe
from vaprompt.model.temporal import TemporalRecipe, temporal_encoder
from vaprompt.recipes import validated
from vaprompt.training.losses import ccc_loss, region_loss

IMAGE, AUDIO, STEPS, SOUND = 24, 18, 5, 11


def build(**fields):
    torch.manual_seed(0)
    recipe = validated(ModelRecipe, {"width": 16, "fusion": {"feedforward": 32}, **fields}, where="test")
    prototypes = torch.nn.functional.normalize(torch.randn(9, IMAGE), dim=-1)
    return Estimator(recipe, image_dim=IMAGE, audio_dim=AUDIO, prototype_KE=prototypes).eval()


def windows(batch=4):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, STEPS, IMAGE, generator=generator),
        torch.randn(batch, SOUND, AUDIO, generator=generator),
    )


def kl_gradients(estimator):
    """The largest gradient in each part that the KL term alone leaves behind; None where it has no graph at all."""
    soft = torch.full((4, 9), 1 / 9)
    soft[:, 0], soft[:, 1] = 0.2, 2 / 9 - 0.2
    loss = region_loss(estimator(*windows()).region_BK, soft)
    if not loss.requires_grad:
        return None
    loss.backward()
    return {
        name: 0.0 if parameter.grad is None else parameter.grad.abs().max().item()
        for name, parameter in estimator.named_parameters()
    }


def test_with_fused_semantics_the_kl_term_alone_trains_grus_attention_and_gate():
    """Fault 8: in the released code the KL term reaches no parameter."""
    gradients = kl_gradients(build())
    for part in ("image.1.gru", "audio.1.gru", "fusion.attention.attention.in_proj", "fusion.gated.gate"):
        reached = [value for name, value in gradients.items() if name.startswith(part)]
        assert reached, part
        assert max(reached) > 1e-7, part


def test_with_clip_semantics_the_kl_term_has_no_gradient_at_all():
    assert kl_gradients(build(prompt={"semantic": "clip"})) is None


@pytest.mark.parametrize("temporal", ["gru", "tcn"])
@pytest.mark.parametrize("fusion", ["attention", "gated", "attention+gated"])
@pytest.mark.parametrize("output", ["window", "sequence"])
def test_every_variant_gives_its_shapes_and_trains_every_parameter(temporal, fusion, output):
    estimator = build(temporal={"kind": temporal}, fusion={"kind": fusion}, head={"output": output})
    estimate = estimator(*windows())
    assert estimate.value.shape == ((4, 2) if output == "window" else (4, STEPS, 2))
    assert estimate.region_BK.shape == (4, 9)
    assert (estimate.gate_BTD is None) == ("gated" not in fusion)
    (estimate.value.square().sum() + estimate.region_BK.square().sum()).backward()
    # Without dropout every parameter but a residual attention's key bias (which a softmax cannot see) has a gradient.
    untouched = [name for name, parameter in estimator.named_parameters() if parameter.grad is None]
    assert untouched == []


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_one_modality_ignores_the_other(modality):
    estimator = build(modalities=[modality])
    image, audio = windows()
    given = (image, None) if modality == "image" else (None, audio)
    other = (image, torch.full_like(audio, torch.nan)) if modality == "image" else (image * torch.nan, audio)
    torch.testing.assert_close(estimator(*given).value, estimator(*other).value)


def test_the_cnn_encoder_takes_log_mel_frames():
    torch.manual_seed(0)
    recipe = ModelRecipe(width=16, audio_encoder="cnn")
    estimator = Estimator(recipe, image_dim=IMAGE, audio_dim=128, prototype_KE=torch.eye(9, IMAGE))
    estimate = estimator(windows()[0], torch.randn(4, 64, 128))
    estimate.value.sum().backward()
    assert estimate.value.shape == (4, 2)
    assert estimator.audio[0].layers[0].weight.grad.abs().max() > 0


def test_the_gate_is_equations_4_and_5():
    torch.manual_seed(0)
    gated = GatedFusion(6)
    attended, image = torch.randn(3, 2, 6), torch.randn(3, 2, 6)
    fused, gate = gated(attended, image)
    weight, bias = gated.gate.weight.detach().numpy(), gated.gate.bias.detach().numpy()
    joined = np.concatenate((attended.numpy(), image.numpy()), axis=-1)
    expected_gate = 1 / (1 + np.exp(-(joined @ weight.T + bias)))
    expected = expected_gate * attended.numpy() + (1 - expected_gate) * image.numpy()
    np.testing.assert_allclose(gate.detach().numpy(), expected_gate, atol=1e-6)
    np.testing.assert_allclose(fused.detach().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("clips", [None, torch.zeros(1, dtype=torch.int64)], ids=["their own", "shared"])
def test_attention_is_softmax_of_scaled_products_with_residuals_and_norms(clips):
    torch.manual_seed(0)
    width, heads = 8, 2
    fusion = Fusion(width, FusionRecipe(kind="attention", heads=heads, feedforward=12)).eval()
    block = fusion.attention
    torch.nn.init.normal_(block.attention.in_proj_bias)
    image, audio = torch.randn(3, 1, width), torch.randn(5, 1, width)
    w_q, w_k, w_v = (part.detach().numpy() for part in block.attention.in_proj_weight.chunk(3))
    b_q, b_k, b_v = (part.detach().numpy() for part in block.attention.in_proj_bias.chunk(3))
    v, a = image[:, 0].numpy(), audio[:, 0].numpy()
    q, k, value = v @ w_q.T + b_q, a @ w_k.T + b_k, a @ w_v.T + b_v
    heard, shares = [], []
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        score = q[:, part] @ k[:, part].T / math.sqrt(width / heads)
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        shares.append(weight / weight.sum(axis=1, keepdims=True))
        heard.append(shares[-1] @ value[:, part])
    out = np.concatenate(heard, axis=1) @ block.attention.out_proj.weight.detach().numpy().T

    def normed(x):
        return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)

    attended = normed(v + out)
    first, last = block.feedforward[0], block.feedforward[3]
    hidden = np.maximum(attended @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    expected = normed(attended + hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy())
    fused = fusion(image, audio, clips)
    np.testing.assert_allclose(fused.sequence_TBD[:, 0].detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(fused.attention_BHTS[0].detach().numpy(), np.stack(shares), atol=1e-6)


def test_windows_with_a_sound_of_their_own_attend_as_those_that_share_it():
    torch.manual_seed(0)
    attention = MultiheadAttention(8, 2, 0.3)
    torch.nn.init.normal_(attention.in_proj_bias)
    image, audio, each = torch.randn(3, 4, 8), torch.randn(5, 4, 8), torch.arange(4)
    attention.dropout.kept = attention.dropout.draw((4, 2, 3, 5), image.device)
    torch.testing.assert_close(attention(image, audio), attention(image, audio, each))


def test_region_logits_are_scaled_cosines():
    torch.manual_seed(0)
    prototypes = torch.nn.functional.normalize(torch.randn(9, IMAGE), dim=-1)
    fused, image = torch.randn(4, 2, 6), torch.randn(4, 2, IMAGE)
    head = FusedRegionHead(6, prototypes, PromptRecipe())
    semantic = fused.mean(dim=0).numpy() @ head.project.weight.detach().numpy().T + head.project.bias.detach().numpy()
    cosine = semantic @ prototypes.numpy().T / np.linalg.norm(semantic, axis=1, keepdims=True)
    np.testing.assert_allclose(head(fused, image).detach().numpy(), 10 * cosine, atol=1e-5)
    frozen = ClipRegionHead(prototypes, PromptRecipe(semantic="clip"))
    constant = image[:1].expand(4, -1, -1)
    cosine = constant[0].numpy() @ prototypes.numpy().T / np.linalg.norm(constant[0], axis=1, keepdims=True)
    np.testing.assert_allclose(frozen(fused, constant).numpy(), 10 * cosine, atol=1e-5)
    assert list(frozen.parameters()) == []


def test_a_tcn_is_causal_and_a_gru_is_not():
    torch.manual_seed(0)
    before = torch.randn(8, 1, 16)
    after = before.clone()
    after[-1] += 1
    tcn = temporal_encoder(16, TemporalRecipe(kind="tcn")).eval()
    torch.testing.assert_close(tcn(before)[:-1], tcn(after)[:-1])
    gru = temporal_encoder(16, TemporalRecipe(kind="gru")).eval()
    assert not torch.allclose(gru(before)[0], gru(after)[0])


@pytest.mark.parametrize("count", [2, 16, 257])
def test_the_ccc_loss_is_the_definition(count):
    generator = np.random.default_rng(count)
    x, y = generator.normal(size=(2, count, 2))
    expected = sum(
        1
        - 2
        * np.mean((x[:, i] - x[:, i].mean()) * (y[:, i] - y[:, i].mean()))
        / (x[:, i].var() + y[:, i].var() + (x[:, i].mean() - y[:, i].mean()) ** 2)
        for i in (0, 1)
    )
    assert ccc_loss(torch.from_numpy(x), torch.from_numpy(y)).item() == pytest.approx(expected, abs=1e-6)


def test_the_kl_term_is_the_definition_and_zero_at_its_target():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(5, 9))
    soft = generator.dirichlet(np.ones(9), size=5)
    q = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.mean(np.sum(soft * (np.log(soft) - np.log(q)), axis=1))
    assert region_loss(torch.from_numpy(logits), torch.from_numpy(soft)).item() == pytest.approx(expected)
    assert region_loss(torch.from_numpy(np.log(soft)), torch.from_numpy(soft)).item() == pytest.approx(0, abs=1e-12)


def test_masked_steps_do_not_count():
    prediction, truth = torch.randn(2, 3, 2), torch.randn(2, 3, 2)
    valid = torch.tensor([[True, False, True], [False, True, True]])
    expected = ccc_loss(prediction[valid], truth[valid])
    truth[~valid] = -5
    torch.testing.assert_close(ccc_loss(prediction, truth, valid), expected)
    assert ccc_loss(prediction, truth, torch.zeros_like(valid)) == 2
