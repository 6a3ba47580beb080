"""Pixels that a mask marks as bad: gaps, defects and saturated cores, and holes of every shape."""

import numpy as np
from scipy.ndimage import binary_dilation

from bgrem.simulate.scene import DEFECT_BIT, FULL_WELL_BIT, GAP_BIT
from bgrem.simulate.training_sky import log_uniform

__all__ = ["border", "known_bad_pixels"]


def known_bad_pixels(sky, rng):
    """Bad pixels of a drawn scene as a random mask knows them.

    Gaps, defects and saturated cores are in it or not, each with its own chance; in half of the scenes also
    single pixels, discs and bars, half of them on stars, and a border that may cross stars.

    Parameters
    ----------
    sky : `~bgrem.simulate.scene.Sky`
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, (ny, nx) bool
    """
    bad = np.zeros(sky.data.shape, bool)
    for bit, chance, widest in ((GAP_BIT, 0.5, 0), (DEFECT_BIT, 0.15, 1), (FULL_WELL_BIT, 0.3, 3)):
        if rng.random() < chance:
            marked = sky.mask & bit > 0
            grown = rng.integers(widest + 1)
            bad |= binary_dilation(marked, iterations=int(grown)) if grown else marked
    if rng.random() < 0.5:
        _punch(bad, sky, rng)
    if rng.random() < 0.1:
        bad |= border(bad.shape, rng)
    return bad


def _punch(bad, sky, rng):
    """Mark holes, in place."""
    shape = bad.shape
    seen = sky.truth[sky.truth["snr"] > 10]
    for _ in range(1 + rng.poisson(log_uniform(rng, 1.0, 200.0) * bad.size / 768**2)):
        place = rng.uniform(0, shape)
        if seen.size and rng.random() < 0.5:
            star = seen[rng.integers(seen.size)]
            place = np.array([star["y"], star["x"]]) + sky.scene.fwhm * rng.normal(0, 0.7, 2)
        kind = rng.random()
        if kind < 0.4:
            _mark_disc(bad, place, log_uniform(rng, 0.5, 8.0))
        else:
            bar = 1 + rng.poisson(0.4), 1 if kind < 0.6 else int(log_uniform(rng, 2.0, 400.0))
            _mark_bar(bad, place, bar if rng.random() < 0.3 else bar[::-1])


def _mark_disc(bad, place, radius):
    (top, left), reach = np.rint(place).astype(int), int(np.ceil(radius))
    rows, columns = (
        np.arange(max(middle - reach, 0), min(middle + reach + 1, size))
        for middle, size in zip((top, left), bad.shape, strict=True)
    )
    away = np.hypot(rows[:, None] - place[0], columns[None, :] - place[1])
    bad[np.ix_(rows, columns)] |= away <= radius


def _mark_bar(bad, place, size):
    """Mark a bar of some (rows, columns); one that is long may run on to the edge of the image."""
    first = (np.rint(place) - np.array(size) // 2).astype(int)
    rows, columns = (slice(max(a, 0), max(a + n, 0)) for a, n in zip(first, size, strict=True))
    bad[rows, columns] = True


def border(shape, rng):
    """The outside of a frame that is turned or dithered against its pixels.

    Parameters
    ----------
    shape : tuple of int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, (ny, nx) bool
    """
    y, x = (np.arange(size, dtype=np.float32) / size - 0.5 for size in shape)
    angle = rng.normal(0.0, 0.1) if rng.random() < 0.5 else 0.0
    along = np.abs(np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None])
    across = np.abs(np.cos(angle) * y[:, None] - np.sin(angle) * x[None, :])
    return np.maximum(along, across) > 0.5 - log_uniform(rng, 2e-3, 0.15)
