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


@settings(deadline=None, max_examples=25)
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
