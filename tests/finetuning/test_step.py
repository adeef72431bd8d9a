"""A step's gradient is that of the whole batch's CCC, however many windows fit into the encoders at once."""

import pytest
import torch

from tests.finetuning.networks import WINDOWS, encoders, heads, losses, windows
from vaprompt.finetuning.recipe import TuningRecipe
from vaprompt.finetuning.step import Embeddings, RawEncoders, backward
from vaprompt.seeds import derived_seed

NONE = TuningRecipe(tune="none")


def gradients(raw, tuned, estimator, at_once: int, seed: int = 3, **named) -> tuple[dict[str, torch.Tensor], float]:
    parameters = {**tuned, **{f"heads.{name}": value for name, value in estimator.named_parameters()}}
    for parameter in parameters.values():
        parameter.grad = None
    told = backward(raw, estimator, windows(), losses(), at_once=at_once, seed=seed, **named)
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
        for name, value in parameters.items()
    }, told[0].item()


def check_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], share: float = 1e-3) -> None:
    """Compare gradients up to rounding: a share of the largest value of each parameter.

    What is zero but for rounding, as that of a key's bias, which a softmax cannot see, is measured by the others.
    """
    least = 1e-4 * max(gradient.abs().max().item() for gradient in one.values())
    for name, gradient in one.items():
        scale = max(gradient.abs().max().item(), least)
        assert (two[name] - gradient).abs().max() <= share * scale, name


@pytest.fixture(scope="module")
def whole():
    raw, tuned = encoders()
    estimator = heads(raw.image.dim, 96)
    return raw, tuned, estimator, *gradients(raw, tuned, estimator, WINDOWS)


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_parts_of_a_batch_give_the_gradient_of_all_of_it(whole, at_once):
    raw, tuned, estimator, expected, loss = whole
    found, same_loss = gradients(raw, tuned, estimator, at_once)
    assert same_loss == pytest.approx(loss, abs=1e-5)
    check_same(expected, found)
    assert max(gradient.abs().max() for name, gradient in found.items() if not name.startswith("heads")) > 0


def test_the_mean_of_the_parts_own_losses_would_be_another_gradient(whole):
    """Why two passes are needed: CCC is no mean over windows."""
    raw, tuned, estimator, expected, _ = whole
    for parameter in [*tuned.values(), *estimator.parameters()]:
        parameter.grad = None
    with torch.random.fork_rng():
        torch.manual_seed(3)
        embeddings = raw.encode(windows())
        estimate = estimator(embeddings.image_BTI, embeddings.audio_BSA)
    truth = losses()
    halves = [truth(type(estimate)(*(None if v is None else v[rows].repeat(2, *[1] * (v.ndim - 1)) for v in estimate)))
              for rows in (slice(0, 3), slice(3, 6))]  # fmt: skip
    (sum(half[0] for half in halves) / 2).backward()
    name = max(tuned, key=lambda name: float(expected[name].abs().max()))
    assert not torch.allclose(tuned[name].grad, expected[name], rtol=0.05, atol=0)


def test_checkpointing_changes_nothing_but_rounding(whole):
    *_, expected, loss = whole
    raw, tuned = encoders(checkpointing=True)
    for at_once in (2, WINDOWS):
        found, same_loss = gradients(raw, tuned, heads(raw.image.dim, 96), at_once)
        assert same_loss == pytest.approx(loss, abs=1e-5)
        check_same(expected, found)


def test_what_an_encoder_drops_it_drops_in_both_passes():
    """Against all parts in one graph, each with its own random numbers: memory aside, what two passes stand for."""
    raw, tuned = encoders(audio=NONE)
    estimator = heads(raw.image.dim, 96)
    raw.image.network.visual = torch.nn.Sequential(raw.image.network.visual, torch.nn.Dropout(0.5))
    raw.set_learning(True)
    found, loss = gradients(raw, tuned, estimator, 2)
    for parameter in [*tuned.values(), *estimator.parameters()]:
        parameter.grad = None
    pieces = []
    for number, part in enumerate(windows().parts(2)):
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed(3, number))
            pieces.append(raw.encode(part))
    joined = Embeddings(*(torch.cat([piece.of(stream) for piece in pieces]) for stream in ("image", "audio")))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected_loss = losses()(estimator(joined.image_BTI, joined.audio_BSA))[0]
    expected_loss.backward()
    assert loss == pytest.approx(expected_loss.item(), abs=1e-5)
    check_same({name: value.grad for name, value in tuned.items()}, found)
    other, _ = gradients(raw, tuned, estimator, 2, seed=99)
    assert any(not torch.allclose(other[name], found[name]) for name in tuned)


def test_a_seed_disturbs_no_other_chance(whole):
    raw, tuned, estimator, *_ = whole
    torch.manual_seed(8)
    before = torch.random.get_rng_state()
    gradients(raw, tuned, estimator, 2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_heads_alone_learn_where_the_encoders_are_frozen():
    raw, tuned = encoders(NONE, NONE)
    assert tuned == {}
    estimator = heads(raw.image.dim, 96)
    whole, loss = gradients(raw, tuned, estimator, WINDOWS)
    parts, same = gradients(raw, tuned, estimator, 2)
    assert same == pytest.approx(loss, abs=1e-5)
    check_same(whole, parts)
    assert all(parameter.grad is None for parameter in raw.parameters())


@pytest.mark.parametrize("stream", ["image", "audio"])
def test_one_encoder_learns_without_the_other(stream):
    raw, tuned = encoders(**{"image": NONE, "audio": NONE} | {stream: TuningRecipe()})
    assert raw.tuned == (stream,)
    assert {name.partition(".")[0] for name in tuned} == {stream}
    estimator = heads(raw.image.dim, 96)
    whole, _ = gradients(raw, tuned, estimator, WINDOWS)
    parts, _ = gradients(raw, tuned, estimator, 4)
    check_same(whole, parts)


def test_a_modality_that_the_heads_leave_out_needs_no_encoder(whole):
    raw, tuned, *_ = whole
    seen = {name: value for name, value in tuned.items() if name.startswith("image.")}
    learning = {"image": seen}
    alone = RawEncoders(raw.image, None, learning, torch.float32)
    estimator = heads(raw.image.dim, 96, modalities=["image"])
    found, _ = gradients(alone, seen, estimator, 2)
    assert max(gradient.abs().max() for gradient in found.values()) > 0


def test_bf16_stays_near_fp32(whole):
    raw, tuned, estimator, expected, loss = whole
    mixed = RawEncoders(raw.image, raw.audio, {"image": tuned, "audio": tuned}, torch.bfloat16)
    found, other = gradients(mixed, tuned, estimator, 2)
    assert other == pytest.approx(loss, abs=0.05)
    everything = [torch.cat([value.flatten() for value in each.values()]) for each in (expected, found)]
    assert torch.nn.functional.cosine_similarity(*everything, dim=0) > 0.98
    assert all(value.dtype == torch.float32 for value in found.values())


def test_a_scaled_loss_scales_the_gradient(whole):
    raw, tuned, estimator, expected, loss = whole
    found, same = gradients(raw, tuned, estimator, 2, scale=lambda value: value * 64)
    assert same == pytest.approx(loss, abs=1e-5)
    check_same({name: value * 64 for name, value in expected.items()}, found)
