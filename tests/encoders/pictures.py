"""Pictures of every kind that resizing could get wrong."""

import numpy as np


def pictures() -> dict[str, np.ndarray]:
    """Return RGB pictures (H, W, 3) by name: faces' size, larger, smaller, lying, standing; smooth, noisy and sharp."""
    chance = np.random.default_rng(0)
    found = {}
    for name, (height, width) in {
        "crop": (112, 112),
        "lying": (270, 480),
        "standing": (480, 271),
        "small": (57, 64),
        "exact": (224, 224),
        "large": (1080, 1920),
    }.items():
        y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
        face = np.stack((np.hypot(x - 0.5, y - 0.5) < 0.3, np.sin(20 * x) * 0.5 + 0.5, y), axis=-1)
        noise = chance.normal(0, 0.08, size=(height, width, 3))
        found[name] = (np.clip(0.8 * face + 0.1 + noise, 0, 1) * 255).astype(np.uint8)
    board = (np.indices((300, 300)).sum(axis=0) // 7 % 2 * 255).astype(np.uint8)
    found["chequered"] = np.repeat(board[:, :, None], 3, axis=2)
    return found
