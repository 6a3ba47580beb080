"""Local maxima of a plane, their sub-pixel positions and their prominence."""

import numpy as np

__all__ = ["DETECTION", "detection_table", "local_maxima", "prominence"]

#: A detection: position in pixels (0-based, pixel centres at integers) and a score, higher is surer.
DETECTION = np.dtype([("x", np.float64), ("y", np.float64), ("score", np.float64)])


def detection_table(x, y, score):
    """Detections from their columns.

    Parameters
    ----------
    x, y : (n,) array_like
        Positions in pixels.
    score : (n,) array_like
        Higher is surer.

    Returns
    -------
    (n,) structured array
        `DETECTION`, best score first.
    """
    table = np.empty(np.size(x), dtype=DETECTION)
    table["x"], table["y"], table["score"] = x, y, score
    return table[np.argsort(-table["score"], kind="stable")]


def local_maxima(plane, *, threshold, usable=None):
    """Pixels above `threshold` that no neighbour of the eight exceeds.

    Parameters
    ----------
    plane : (ny, nx) array
        nan counts as lower than anything.
    threshold : float
        Least height, exclusive.
    usable : (ny, nx) bool, optional
        Where maxima may lie.  Pixels outside do not hide maxima beside them.

    Returns
    -------
    structured array
        `DETECTION`, best score first; the position is the vertex of a parabola through the maximum
        and its two neighbours, in x and y each.
    """
    height = np.where(np.isfinite(plane), plane, -np.inf)
    if usable is not None:
        height = np.where(usable, height, -np.inf)
    around = np.pad(height, 1, constant_values=-np.inf)
    # A plateau (a saturated or clipped plane) gives one maximum: the last pixel in reading order
    # must be passed strictly, the earlier ones not.
    y, x = np.nonzero(height > threshold)
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
        top = height[y, x]
        later, earlier = (around[y + 1 + s * down, x + 1 + s * right] for s in (1, -1))
        kept = (top >= later) & (top > earlier)
        y, x = y[kept], x[kept]
    return detection_table(x + _vertex(plane, y, x, 1), y + _vertex(plane, y, x, 0), height[y, x])


def _vertex(plane, y, x, axis):
    """Offset, within half a pixel, of the parabola's vertex along an axis; 0 where it has none."""
    step = (1, 0) if axis == 0 else (0, 1)
    ny, nx = plane.shape
    before = plane[np.maximum(y - step[0], 0), np.maximum(x - step[1], 0)].astype(np.float64)
    after = plane[np.minimum(y + step[0], ny - 1), np.minimum(x + step[1], nx - 1)]
    curvature = before - 2.0 * plane[y, x] + after
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = 0.5 * (before - after) / curvature
    return np.clip(np.where(np.isfinite(offset) & (curvature < 0), offset, 0.0), -0.49, 0.49)


def prominence(plane, y, x, *, floor):
    """How far a maximum stands above the highest saddle that leads to a higher one.

    Pixels are added from the brightest down to `floor`; where two islands meet, the lower summit has
    found its saddle.  A summit that meets no higher one stands above `floor`.

    Parameters
    ----------
    plane : (ny, nx) array
    y, x : (n,) int
        Pixels of the maxima, all above `floor`.
    floor : float
        Lowest height that is looked at.

    Returns
    -------
    (n,) float64
        In the unit of the plane.
    """
    ny, nx = plane.shape
    padded = np.full((ny + 2, nx + 2), -np.inf)
    padded[1:-1, 1:-1] = plane
    height = padded.ravel()
    pixels = np.flatnonzero(height > floor)
    pixels = pixels[np.argsort(-height[pixels], kind="stable")]
    parent = {}
    found = {}
    steps = (-nx - 3, -nx - 2, -nx - 1, -1, 1, nx + 1, nx + 2, nx + 3)

    def summit(pixel):
        root = pixel
        while parent[root] != root:
            root = parent[root]
        while parent[pixel] != root:
            parent[pixel], pixel = root, parent[pixel]
        return root

    for pixel in pixels.tolist():
        # The summit of an island is its root: it was the first pixel of it.
        islands = {summit(pixel + step) for step in steps if pixel + step in parent}
        highest = max(islands, key=lambda root: height[root], default=pixel)
        parent[pixel] = highest
        for root in islands - {highest}:
            parent[root] = highest
            found[root] = height[root] - height[pixel]
    wanted = (np.asarray(y) + 1) * (nx + 2) + np.asarray(x) + 1
    return np.array([found.get(i, height[i] - floor) for i in wanted.tolist()], dtype=np.float64)
