"""Every module of the network in numpy, written from docs/method.md, one window at a time and step by step.

Weights come by the names of the network's own state; nothing else of it is used.

Axes: T image steps, S audio steps, D channels, K regions; the last axis 2 is valence, arousal.
"""

from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]


def below(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(f"{prefix}."): value for name, value in weights.items() if name.startswith(f"{prefix}.")}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def linear(weights: Weights, x):
    return x @ weights["weight"].T + weights["bias"]


def normed(weights: Weights, x):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weights["weight"] + weights["bias"]


def gru(weights: Weights, sequence_TD):
    """A layer in both directions: r and z from input and state, the new state between the old one and tanh."""
    sides = []
    for suffix, order in (("l0", 1), ("l0_reverse", -1)):
        units = weights[f"weight_hh_{suffix}"].shape[1]
        state, states = np.zeros(units), []
        for x in sequence_TD[::order]:
            given = x @ weights[f"weight_ih_{suffix}"].T + weights[f"bias_ih_{suffix}"]
            kept = state @ weights[f"weight_hh_{suffix}"].T + weights[f"bias_hh_{suffix}"]
            reset = sigmoid(given[:units] + kept[:units])
            update = sigmoid(given[units : 2 * units] + kept[units : 2 * units])
            new = np.tanh(given[2 * units :] + reset * kept[2 * units :])
            state = (1 - update) * new + update * state
            states.append(state)
        sides.append(np.stack(states[::order]))
    return np.concatenate(sides, axis=1)


def tcn(weights: Weights, sequence_TD, *, kernel: int, levels: int):
    """Level i convolves twice over steps that lie 2^i apart and never ahead, and adds what came in."""
    for level in range(levels):
        hidden_TD = sequence_TD
        for name in ("first", "second"):
            part = below(weights, f"blocks.{level}.{name}")
            out = []
            for t in range(len(hidden_TD)):
                total = part["bias"].copy()
                for tap in range(kernel):
                    before = t - (kernel - 1 - tap) * 2**level
                    if before >= 0:
                        total = total + part["weight"][:, :, tap] @ hidden_TD[before]
                out.append(np.maximum(total, 0))
            hidden_TD = np.stack(out)
        sequence_TD = np.maximum(hidden_TD + sequence_TD, 0)
    return sequence_TD


def temporal(weights: Weights, sequence_TD, recipe):
    """Projection to the model's width, then GRU and back to it, or TCN."""
    sequence_TD = linear(below(weights, "0"), sequence_TD)
    encoder = below(weights, "1")
    if recipe.kind == "gru":
        return linear(below(encoder, "out"), gru(below(encoder, "gru"), sequence_TD))
    return tcn(encoder, sequence_TD, kernel=recipe.kernel, levels=recipe.levels)


def attention(weights: Weights, image_TD, audio_SD, heads: int):
    """Equation 3: the picture asks; residual and norm, feed-forward, residual and norm."""
    inner = below(weights, "attention")
    width = image_TD.shape[1]
    q, k, v = (
        x @ matrix.T + bias
        for x, matrix, bias in zip(
            (image_TD, audio_SD, audio_SD),
            np.split(inner["in_proj_weight"], 3),
            np.split(inner["in_proj_bias"], 3),
            strict=True,
        )
    )
    heard = []
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        heard.append(softmax(q[:, part] @ k[:, part].T / np.sqrt(width / heads)) @ v[:, part])
    answer = linear(below(inner, "out_proj"), np.concatenate(heard, axis=1))
    attended = normed(below(weights, "attention_norm"), image_TD + answer)
    hidden = np.maximum(linear(below(weights, "feedforward.0"), attended), 0)
    fed = linear(below(weights, "feedforward.3"), hidden)
    return normed(below(weights, "feedforward_norm"), attended + fed)


def paper_gate(weights: Weights, attended_TD, image_TD):
    """Equations 4 and 5."""
    gate = sigmoid(linear(below(weights, "gate"), np.concatenate((attended_TD, image_TD), axis=1)))
    return gate * attended_TD + (1 - gate) * image_TD


def released_gate(weights: Weights, attended_TD, image_TD):
    """A two-layer MLP on projected inputs, with an output projection."""
    attended, image = linear(below(weights, "attended"), attended_TD), linear(below(weights, "image"), image_TD)
    hidden = np.maximum(linear(below(weights, "gate.0"), np.concatenate((attended, image), axis=1)), 0)
    gate = sigmoid(linear(below(weights, "gate.2"), hidden))
    return linear(below(weights, "out"), gate * attended + (1 - gate) * image)


def pooled(audio_SD, steps: int):
    """The mean of the audio steps that each of `steps` equal shares of time touches."""
    count = len(audio_SD)
    shares = ((t * count // steps, -(-(t + 1) * count // steps)) for t in range(steps))
    return np.stack([audio_SD[first:last].mean(axis=0) for first, last in shares])


def fusion(weights: Weights, image_TD, audio_SD, recipe):
    """Table 2's three strategies."""
    if "attention" in recipe.kind:
        heard_TD = attention(below(weights, "attention"), image_TD, audio_SD, recipe.heads)
    else:
        heard_TD = pooled(audio_SD, len(image_TD))
    if "gated" not in recipe.kind:
        return heard_TD
    gate = paper_gate if recipe.gate == "linear" else released_gate
    return gate(below(weights, "gated"), heard_TD, image_TD)


def head(weights: Weights, fused_TD, *, sequence: bool):
    """The mean over time (or each step) -> Linear, ReLU, Linear."""
    value = fused_TD if sequence else fused_TD.mean(axis=0)
    return linear(below(weights, "layers.3"), np.maximum(linear(below(weights, "layers.0"), value), 0))


def regions(weights: Weights, fused_TD, image_TE, recipe):
    """Cosine with each prototype, times a scale: learned and of the fused window, or constant and of the picture."""
    prototype_KE = weights["prototype_KE"]
    if recipe.semantic == "fused":
        scale, seen_E = np.exp(weights["log_scale"]), linear(below(weights, "project"), fused_TD.mean(axis=0))
    else:
        scale = recipe.scale
        seen_E = (image_TE / np.linalg.norm(image_TE, axis=1, keepdims=True)).mean(axis=0)
    cosine_K = prototype_KE @ seen_E / np.linalg.norm(seen_E) / np.linalg.norm(prototype_KE, axis=1)
    return scale * cosine_K


def estimate(weights: Weights, image_TE, audio_SC, recipe):
    """The whole network for one window: valence and arousal, and the region logits."""
    image_TD = temporal(below(weights, "image"), image_TE, recipe.temporal)
    audio_SD = temporal(below(weights, "audio"), audio_SC, recipe.temporal)
    fused_TD = fusion(below(weights, "fusion"), image_TD, audio_SD, recipe.fusion)
    value = head(below(weights, "head"), fused_TD, sequence=recipe.head.output == "sequence")
    return value, regions(below(weights, "regions"), fused_TD, image_TE, recipe.prompt)
