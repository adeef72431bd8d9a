"""Lin's coefficient from its definition, for arrays and in exact arithmetic."""

from fractions import Fraction

import numpy as np


def lin(x, y):
    """Return the CCC with population variances, in double precision."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def exact_lin(x, y):
    """Return the CCC without any rounding; None where it is 0/0."""
    x, y = [Fraction(float(value)) for value in x], [Fraction(float(value)) for value in y]
    count = len(x)
    if not count:
        return None
    x_mean, y_mean = sum(x) / count, sum(y) / count
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / count
    spread = sum((a - x_mean) ** 2 for a in x) / count + sum((b - y_mean) ** 2 for b in y) / count
    total = spread + (x_mean - y_mean) ** 2
    return None if total == 0 else float(2 * covariance / total)
