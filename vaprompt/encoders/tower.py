"""A frozen transformer, arranged for speed: the same sums as open_clip's and transformers' own modules.

Queries, keys and values come from one product; activations and sums into the residual stream are made by the products
themselves; on the processor the matrices are packed once for oneDNN. Where only the first token is wanted, the last
layer computes no other. Channels of zeros keep rows apart where that is faster.

Axes: B items, T tokens, D channels, O outputs, I inputs; H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vaprompt.encoders.attention import attention
from vaprompt.encoders.processor import packs, spacing

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SLOPE = 1.702
"""QuickGELU is x * sigmoid(1.702 x), so SiLU of 1.702 x, divided by 1.702."""

Activation = Literal["none", "silu", "gelu"]
ACTIVATE: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda output: output,
    "silu": torch.ops.aten.silu_,
    "gelu": torch.ops.aten.gelu_,
}
ONEDNN: dict[Activation, tuple[str, str]] = {"none": ("none", ""), "silu": ("swish", ""), "gelu": ("gelu", "none")}
"""What oneDNN calls them: applied to a product's sums before they are rounded."""


class Linear:
    """A frozen product with a matrix; on the processor packed for oneDNN, if it knows the number format."""

    def __init__(
        self, weight_OI: Float[Tensor, "O I"], bias_O: Float[Tensor, "O"] | None, activation: Activation = "none"
    ) -> None:
        """Take over the matrix, which is in its final number format and on its device."""
        self._activation: Activation = activation
        self._bias_O = None if bias_O is None else bias_O.detach().contiguous()
        self._packed = packs(weight_OI.dtype, weight_OI.device)
        weight_OI = weight_OI.detach().contiguous()
        self._weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI) if self._packed else weight_OI

    def __call__(self, input: Float[Tensor, "*rest I"]) -> Float[Tensor, "*rest O"]:  # noqa: A002
        """Return the product with the bias added, activated."""
        if not self._packed:
            return ACTIVATE[self._activation](F.linear(input, self._weight, self._bias_O))
        name, algorithm = ONEDNN[self._activation]
        product: Tensor = torch.ops.mkldnn._linear_pointwise(input, self._weight, self._bias_O, name, [], algorithm)
        return product

    def onto(self, input: Float[Tensor, "*rest I"], sum: Float[Tensor, "*rest O"]) -> Float[Tensor, "*rest O"]:  # noqa: A002
        """Return the product, bias and another summand in one, without activation."""
        if not self._packed:
            return F.linear(input, self._weight, self._bias_O).add_(sum)
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(input, sum, self._weight, self._bias_O, "add")
        return product


@dataclass(frozen=True)
class Norm:
    """A frozen layer normalisation."""

    weight_D: Tensor
    bias_D: Tensor
    epsilon: float

    @classmethod
    def of(cls, module: torch.nn.LayerNorm, dtype: torch.dtype) -> Norm:
        """Return what a module does, in another number format."""
        return cls(module.weight.detach().to(dtype), module.bias.detach().to(dtype), module.eps)

    def __call__(self, token_BTD: Float[Tensor, "*rest D"]) -> Float[Tensor, "*rest D"]:
        """Return the normalised tokens."""
        return F.layer_norm(token_BTD, self.weight_D.shape, self.weight_D, self.bias_D, self.epsilon)


@dataclass(frozen=True)
class Parts:
    """The weights of one layer, as its own module keeps them."""

    before: torch.nn.LayerNorm
    qkv_OI: Tensor
    """Queries, keys and values below each other."""
    qkv_O: Tensor | None
    out: torch.nn.Linear
    after: torch.nn.LayerNorm
    up: torch.nn.Linear
    down: torch.nn.Linear
    quick: bool
    """QuickGELU; else GELU."""


class Layer:
    """One pre-norm transformer layer."""

    def __init__(self, parts: Parts, heads: int, dtype: torch.dtype, *, first_only: bool) -> None:
        """Arrange the weights; `first_only` gives the first token alone."""
        self._heads, self._first_only = heads, first_only
        width = parts.out.out_features
        self._before, self._after = Norm.of(parts.before, dtype), Norm.of(parts.after, dtype)
        qkv_OI = parts.qkv_OI.to(dtype)
        qkv_O = None if parts.qkv_O is None else parts.qkv_O.to(dtype)
        split = width if first_only else 0
        self._query = Linear(qkv_OI[:split], None if qkv_O is None else qkv_O[:split]) if first_only else None
        device = parts.out.weight.device
        between = spacing(len(qkv_OI) - split, dtype, device)
        qkv_OI = F.pad(qkv_OI[split:], (0, 0, 0, between))
        self._qkv = Linear(qkv_OI, None if qkv_O is None else F.pad(qkv_O[split:], (0, between)))
        self._out = _linear(parts.out, dtype)
        slope = SLOPE if parts.quick else 1.0
        # Either activation leaves zeros zero.
        between = spacing(parts.up.out_features, dtype, device)
        activation: Activation = "silu" if parts.quick else "gelu"
        self._up = _linear(parts.up, dtype, activation, weight=slope, bias=slope, more_outputs=between)
        self._down = _linear(parts.down, dtype, weight=1 / slope, more_inputs=between)
        self._attend = attention(dtype, device)

    def __call__(self, token_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B t D"]:
        """Return the tokens after this layer: all of them, or the first alone."""
        normed_BTD = self._before(token_BTD)
        *others, key_BHTC, value_BHTC = self._split(self._qkv(normed_BTD), 3 if self._query is None else 2)
        if self._query is None:
            return self._rest(self._attend(others[0], key_BHTC, value_BHTC), token_BTD)
        # On the processor, products of few rows are made item by item: their sums would depend on how many there are.
        step = 1 if token_BTD.device.type == "cpu" else max(1, len(token_BTD))
        rows = []
        for start in range(0, len(token_BTD), step):
            some = slice(start, start + step)
            (query_BH1C,) = self._split(self._query(normed_BTD[some, :1].contiguous()), 1)
            mixed_B1D = self._attend(query_BH1C, key_BHTC[some], value_BHTC[some])
            rows.append(self._rest(mixed_B1D, token_BTD[some, :1].contiguous()))
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _split(self, token_BTO: Tensor, count: int) -> list[Tensor]:
        """Return queries, keys and values, or the last `count` of them, each (B, H, T, C)."""
        width = self._after.weight_D.numel()
        items, tokens, _ = token_BTO.shape
        some_BTO = token_BTO[..., : count * width]
        parts_BTNHC = some_BTO.view(items, tokens, count, self._heads, width // self._heads)
        return list(parts_BTNHC.permute(2, 0, 3, 1, 4))

    def _rest(self, mixed_BTD: Tensor, token_BTD: Tensor) -> Tensor:
        token_BTD = self._out.onto(mixed_BTD, token_BTD)
        return self._down.onto(self._up(self._after(token_BTD)), token_BTD)


class Tower:
    """Layers one after the other."""

    def __init__(self, layers: list[Parts], heads: int, dtype: torch.dtype, *, first_only: bool = False) -> None:
        """Arrange the weights, in a number format of its own; `first_only` gives the first token alone."""
        last = len(layers) - 1
        self._layers = [
            Layer(parts, heads, dtype, first_only=first_only and index == last) for index, parts in enumerate(layers)
        ]

    def __call__(self, token_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B t D"]:
        """Return the tokens after the last layer: all of them, or the first alone."""
        for layer in self._layers:
            token_BTD = layer(token_BTD)
        return token_BTD


def _linear(
    module: torch.nn.Linear,
    dtype: torch.dtype,
    activation: Activation = "none",
    *,
    weight: float = 1.0,
    bias: float = 1.0,
    more_inputs: int = 0,
    more_outputs: int = 0,
) -> Linear:
    """Return a module's product, scaled, with channels of zeros added."""
    weight_OI = F.pad((module.weight.float() * weight).to(dtype), (0, more_inputs, 0, more_outputs))
    if module.bias is None:
        return Linear(weight_OI, None, activation)
    return Linear(weight_OI, F.pad((module.bias.float() * bias).to(dtype), (0, more_outputs)), activation)


def clip_parts(block: Any) -> Parts | None:
    """Return the weights of a layer of open_clip; None where it is not of the plain kind."""
    import open_clip.transformer as theirs

    known = {theirs.QuickGELU: True, torch.nn.GELU: False}
    plain = (
        type(block) is theirs.ResidualAttentionBlock
        and type(block.attn) is torch.nn.MultiheadAttention
        and block.attn.in_proj_weight is not None
        and isinstance(block.ls_1, torch.nn.Identity)
        and isinstance(block.ls_2, torch.nn.Identity)
        and type(block.mlp.gelu) in known
    )
    if not plain or getattr(block.mlp.gelu, "approximate", "none") != "none":
        return None
    attention, mlp = block.attn, block.mlp
    return Parts(
        block.ln_1,
        attention.in_proj_weight,
        attention.in_proj_bias,
        attention.out_proj,
        block.ln_2,
        mlp.c_fc,
        mlp.c_proj,
        known[type(mlp.gelu)],
    )


def ast_parts(layer: Any) -> Parts:
    """Return the weights of a layer of transformers' AST, whose activation is GELU."""
    attention = layer.attention
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biased = attention.q_proj.bias is not None
    return Parts(
        layer.layernorm_before,
        torch.cat([projection.weight for projection in projections]),
        torch.cat([projection.bias for projection in projections]) if biased else None,
        attention.o_proj,
        layer.layernorm_after,
        layer.mlp.fc1,
        layer.mlp.fc2,
        quick=False,
    )
