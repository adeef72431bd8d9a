"""What a recurrence does step after step, in what TorchScript knows of Python: types are written out, and types alone.

`vaprompt.model.direction` says what is computed. Axes: V networks (or none), T steps, B windows, H units; G = 3 H: r, z
and n below each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaprompt.unlocked import unlocked


def plus(addend: Tensor, left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write addend + left @ right, of one network's matrices or of several networks', as the factors are."""
    if left.dtype != out.dtype:
        torch.add(addend, torch.matmul(left, right), out=out)
    elif left.dim() == 2:
        torch.addmm(addend, left, right, out=out)
    else:
        torch.baddbmm(addend, left, right, out=out)


@unlocked
def advance(
    framed_TBH: Tensor,
    gates_TBG: Tensor,
    new_TBH: Tensor,
    rounded_TBH: Tensor | None,
    read_TBH: Tensor,
    state_HG: Tensor,
    minus_one: Tensor,
    backwards: bool,
) -> None:
    """Write the states after each of some steps, which follow from those before it.

    Args:
        framed_TBH: the states, one row more before and after them.
        gates_TBG: what does not depend on the states; then r, z and U_n h + c_n.
        new_TBH: becomes n.
        rounded_TBH: becomes the framed states as products take them, where that is another precision.
        read_TBH: 2 (W_n x + b_n).
        state_HG: the state's weights.
        minus_one: a tensor, as the operation wants it.
        backwards: whether the last step comes first.
    """
    units = new_TBH.size(-1)
    gates, new, read, states = gates_TBG.unbind(-3), new_TBH.unbind(-3), read_TBH.unbind(-3), framed_TBH.unbind(-3)
    factors = states if rounded_TBH is None else rounded_TBH.unbind(-3)
    opened = gates_TBG.narrow(-1, 0, 2 * units).unbind(-3)
    resets, keeps, heards = (
        gates_TBG.narrow(-1, 0, units).unbind(-3),
        gates_TBG.narrow(-1, units, units).unbind(-3),
        gates_TBG.narrow(-1, 2 * units, units).unbind(-3),
    )
    for number in range(len(gates)):
        t = len(gates) - 1 - number if backwards else number
        before = t + 2 if backwards else t
        plus(gates[t], factors[before], state_HG, out=gates[t])
        torch.sigmoid(opened[t], out=opened[t])
        torch.addcmul(read[t], resets[t], heards[t], value=2, out=new[t])
        torch.sigmoid(new[t], out=new[t])
        torch.add(minus_one, new[t], alpha=2, out=new[t])
        torch.lerp(new[t], states[before], keeps[t], out=states[t + 1])
        if rounded_TBH is not None:
            factors[t + 1].copy_(states[t + 1])


@unlocked
def descend(
    given_TBH: Tensor,
    gates_TBG: Tensor,
    slopes_TB3H: Tensor,
    state_GH: Tensor,
    d_state_TBH: Tensor,
    d_gates_TB3H: Tensor,
    start: int,
    backwards: bool,
) -> None:
    """Write the derivatives of the states after some steps, and of what goes into their gates, the last one's first.

    Args:
        given_TBH: what comes from outside, of all steps.
        gates_TBG: r, z and U_n h + c_n of all steps.
        slopes_TB3H: by what the derivative of a state is multiplied for that of each gate, of the steps in question.
        state_GH: the state's weights.
        d_state_TBH: where to; those of the steps that come later are there.
        d_gates_TB3H: where to, each gate apart.
        start: which steps these are.
        backwards: whether the direction begins at the last step.
    """
    steps, count, units = given_TBH.size(-3), slopes_TB3H.size(-4), state_GH.size(-1)
    keep_TBH, each_TB1H = gates_TBG.narrow(-1, units, units), d_state_TBH.unsqueeze(-2)
    for number in range(count):
        t = start + (number if backwards else count - 1 - number)
        later = t - 1 if backwards else t + 1
        given, d_state = given_TBH.select(-3, t), d_state_TBH.select(-3, t)
        if later < 0 or later == steps:
            d_state.copy_(given)
        else:
            torch.addcmul(given, d_state_TBH.select(-3, later), keep_TBH.select(-3, later), out=d_state)
            plus(d_state, d_gates_TB3H.select(-4, later).flatten(-2), state_GH, out=d_state)
        torch.mul(slopes_TB3H.select(-4, t - start), each_TB1H.select(-4, t), out=d_gates_TB3H.select(-4, t))
