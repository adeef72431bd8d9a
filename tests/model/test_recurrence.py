"""The recurrence is torch's GRU: alone, of several networks at once, and of two threads that meet."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaprompt.lanes import pair
from vaprompt.meeting import meeting, together
from vaprompt.model.direction import Weights
from vaprompt.model.recurrence import bidirectional

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def of(gru, direction=""):
    return Weights(*(getattr(gru, f"{kind}_l0{direction}") for kind in KINDS))


def both(gru):
    return of(gru), of(gru, "_reverse")


def torchs(gru, sequence, slope):
    """What torch's own GRU gives, and the derivatives of all that goes in."""
    sequence = sequence.detach().requires_grad_()
    states, _ = gru(sequence)
    return states, torch.autograd.grad(states, [sequence, *gru.parameters()], slope)


@settings(max_examples=25)
@given(steps=st.integers(1, 20), windows=st.integers(1, 5), channels=st.integers(1, 6), units=st.integers(1, 7))
def test_states_and_derivatives_are_those_of_torchs_gru(steps, windows, channels, units):
    torch.manual_seed(steps)
    gru = torch.nn.GRU(channels, units, bidirectional=True).double()
    sequence, slope = torch.randn(steps, windows, channels).double(), torch.randn(steps, windows, 2 * units).double()
    expected_states, expected = torchs(gru, sequence, slope)
    mine = sequence.clone().requires_grad_()
    states = bidirectional(mine, *both(gru))
    torch.testing.assert_close(states, expected_states)
    torch.testing.assert_close(torch.autograd.grad(states, [mine, *gru.parameters()], slope), expected)
    with torch.inference_mode():
        torch.testing.assert_close(bidirectional(sequence, *both(gru)), expected_states.detach())


def test_several_networks_at_once_are_each_as_if_alone():
    torch.manual_seed(0)
    grus = [torch.nn.GRU(3, 5, bidirectional=True).double() for _ in range(4)]
    sequences, slopes = torch.randn(4, 7, 2, 3).double(), torch.randn(4, 7, 2, 10).double()
    weights = [
        torch.stack(parts).detach().requires_grad_() for parts in zip(*(g.parameters() for g in grus), strict=True)
    ]
    inputs = sequences.clone().requires_grad_()

    def one(sequence, *parts):
        return bidirectional(sequence, Weights(*parts[:4]), Weights(*parts[4:]))

    states = torch.vmap(one)(inputs, *weights)
    gradients = torch.autograd.grad(states, [inputs, *weights], slopes)
    for index, gru in enumerate(grus):
        expected_states, expected = torchs(gru, sequences[index], slopes[index])
        torch.testing.assert_close(states[index], expected_states)
        torch.testing.assert_close([gradient[index] for gradient in gradients], list(expected))


def halved(work):
    """What `work` gives where products are in half of the bits."""
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        return work()


def off_by(found, expected):
    return float(((found.float() - expected).norm() / expected.norm()).detach())


ROUNDED = 0.02
"""By how much a product's result may be off: bfloat16 has 8 bits, and a few roundings meet."""


@pytest.mark.parametrize("steps", [2, 8, 30])
def test_products_in_half_of_the_bits_are_off_by_a_rounding(steps):
    torch.manual_seed(steps)
    gru = torch.nn.GRU(24, 32, bidirectional=True)
    sequence, slope = torch.randn(steps, 6, 24), torch.randn(steps, 6, 64)
    expected_states, expected = torchs(gru, sequence, slope)
    mine = sequence.clone().requires_grad_()
    states = halved(lambda: bidirectional(mine, *both(gru)))
    assert off_by(states, expected_states) < ROUNDED
    gradients = torch.autograd.grad(states, [mine, *gru.parameters()], slope.to(states.dtype))
    assert all(off_by(*pair) < ROUNDED for pair in zip(gradients, expected, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(gradients, expected, strict=True)), "it is in single precision"
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    with torch.inference_mode():
        torch.testing.assert_close(halved(lambda: bidirectional(sequence, *both(gru))), states.detach())


def test_a_state_is_not_rounded_from_step_to_step():
    gru = torch.nn.GRU(1, 1, bidirectional=True)
    with torch.no_grad():
        for name, value in gru.named_parameters():
            # n is 1, and z lets a thousandth of it in: steps that bfloat16 cannot add to a state of 0.5.
            value.zero_() if "weight" in name else value.copy_(torch.tensor([0.0, 3.45, 10.0]))
    slope = torch.zeros(1500, 1, 2)
    expected, _ = torchs(gru, torch.zeros(1500, 1, 1), slope)
    assert expected[-1, 0, 0] > 0.7
    for grads in (True, False):
        with torch.set_grad_enabled(grads):
            states = halved(lambda: bidirectional(torch.zeros(1500, 1, 1), *both(gru)))
        torch.testing.assert_close(states.float(), expected, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_a_meeting_and_several_networks_have_the_precision_of_one(half):
    torch.manual_seed(0)
    gru = torch.nn.GRU(24, 32, bidirectional=True)
    sequence = torch.randn(9, 6, 24).to(torch.bfloat16 if half else torch.float32)

    def states(part):
        with torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False):
            return bidirectional(part, *both(gru))

    alone = states(sequence)
    assert alone.dtype == sequence.dtype
    near = {"rtol": 0.02, "atol": 0.01} if half else {}
    torch.testing.assert_close(
        torch.cat(together(pair(), states, list(sequence.chunk(2, dim=1))), dim=1), alone, **near
    )
    torch.testing.assert_close(torch.vmap(states)(torch.stack([sequence, sequence]))[1], alone, **near)


@pytest.mark.parametrize("sizes", [(3, 3), (4, 1)])
def test_two_threads_that_meet_share_the_directions(sizes):
    torch.manual_seed(0)
    gru = torch.nn.GRU(3, 5, bidirectional=True).double()
    sequence, slope = torch.randn(6, sum(sizes), 3).double(), torch.randn(6, sum(sizes), 10).double()
    expected_states, expected = torchs(gru, sequence, slope)
    inputs = [part.clone().requires_grad_() for part in sequence.split(sizes, dim=1)]
    states = together(pair(), lambda part: bidirectional(part, *both(gru)), inputs)
    torch.testing.assert_close(torch.cat(states, dim=1), expected_states)

    def derive(share):
        states, part, slope = share
        return torch.autograd.grad(states, [part, *gru.parameters()], slope, allow_unused=True)

    shares = list(zip(states, inputs, slope.split(sizes, dim=1), strict=True))
    (first, *forth), (second, *back) = together(pair(), derive, shares)
    torch.testing.assert_close(torch.cat((first, second), dim=1), expected[0])
    # Each thread knows the derivatives of one direction's weights.
    assert all(part is None for part in (*forth[4:], *back[:4]))
    torch.testing.assert_close((*forth[:4], *back[4:]), expected[1:])


def test_who_fails_in_a_meeting_is_heard_and_nobody_waits():
    def work(item):
        here = meeting()
        assert here.exchange(item) == ["a", "b"]
        if item == "b":
            raise ValueError("b has failed")
        return here.exchange(item)

    for _ in range(3):
        with pytest.raises(ValueError, match="b has failed"):
            together(pair(), work, ["a", "b"])
    assert together(pair(), lambda item: meeting().exchange(item), ["a", "b"]) == [["a", "b"]] * 2
    assert meeting() is None
