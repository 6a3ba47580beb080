"""Splines through the nodes of a coarse mesh, evaluated at many places at once."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

__all__ = ["cubic", "curvature_of", "linear", "spline"]


def spline(nodes: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Natural cubic spline along the first axis, straight outside its nodes, float32.

    ``nodes``, with ``values`` at them, and the places ``at`` ascend.
    """
    return cubic(nodes, values, curvature_of(nodes, values), at)


def curvature_of(nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Second derivatives at the nodes of the natural cubic spline along the first axis.

    They are 0 at both ends; between, eq. 3.3.7 of Press et al. (2007, Numerical Recipes). SciPy
    has such splines, in a module whose import takes as long as the sky of a Mpix.
    """
    m = nodes.size
    gaps = np.diff(nodes)
    matrix, differences = np.eye(m), np.zeros((m, m))
    for i in range(1, m - 1):
        before, after = gaps[i - 1], gaps[i]
        matrix[i, i - 1 : i + 2] = before / 6, (before + after) / 3, after / 6
        differences[i, i - 1 : i + 2] = 1 / before, -1 / before - 1 / after, 1 / after
    return (np.linalg.solve(matrix, differences) @ values).astype(np.float32)


def cubic(nodes, values, curvature, at) -> np.ndarray:
    """Cubics between nodes, from values and second derivatives along the first axis.

    Eqs. 3.3.3 and 3.3.4 of Press et al. (2007) in powers of the distance from the node before.
    Outside the nodes their tangent, eq. 3.3.5.
    A product of matrices would be shorter, but its threads wait for those of the network.
    """
    if nodes.size == 1:
        return np.repeat(values, at.size, axis=0)
    result = np.empty((at.size, *values.shape[1:]), np.float32)
    for rows, k, gap, t in _between(nodes, at):
        square = np.float32(gap**2 / 6)
        first, second = curvature[k] * square, curvature[k + 1] * square
        rise = values[k + 1] - values[k]
        inside, beyond = np.clip(t, 0, 1), t - np.clip(t, 0, 1)
        # Horner's scheme, in place: what is gone through is as large as the image.
        part = result[rows]
        np.multiply(inside, second - first, out=part)
        part += 3 * first
        part *= inside
        part += rise - 2 * first - second
        part *= inside
        part += values[k]
        if beyond.any():
            at_end = np.where(beyond < 0, -2 * first - second, first + 2 * second)
            part += beyond * (rise + at_end)
    return result


def linear(nodes, values, at) -> np.ndarray:
    """Straight lines between nodes along the first axis, constant outside them; else as `spline`."""
    if nodes.size == 1:
        return np.repeat(values, at.size, axis=0)
    result = np.empty((at.size, *values.shape[1:]), np.float32)
    for rows, k, _, t in _between(nodes, at):
        part = result[rows]
        np.multiply(np.clip(t, 0, 1), values[k + 1] - values[k], out=part)
        part += values[k]
    return result


def _between(nodes: np.ndarray, at: np.ndarray) -> Iterator[tuple]:
    """Places in order, grouped by the nodes that they lie between or nearest to.

    Yields the slice of the places, the number of the node before them, the gap to the next node, and the
    distance from the node in units of the gap, (n, 1) float32: below 0 and above 1 outside the nodes.
    """
    before = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, nodes.size - 2)
    starts = np.flatnonzero(np.diff(before, prepend=-1))
    for start, stop in pairwise([*starts, at.size]):
        k = before[start]
        gap = nodes[k + 1] - nodes[k]
        t = (at[start:stop] - nodes[k])[:, None] / gap
        yield slice(start, stop), k, gap, t.astype(np.float32)
