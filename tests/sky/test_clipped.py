"""Clipped modes of cells: what SEP gives one by one, whatever the unit, the cells or the bad pixels."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skies import white_noise

from bgrem.sky.clipped import clipped_mean, clipped_modes

sep = pytest.importorskip("sep")

EDGES = np.array([0, 96, 192, 289, 384])


def noise(seed=0, rows=96):
    return white_noise((rows, EDGES[-1]), seed=seed)


def crowd(seed=0):
    """Noise with exponential light on a third of the pixels."""
    strip = noise(seed)
    rng = np.random.default_rng(seed + 1)
    strip += np.where(rng.random(strip.shape) < 0.3, rng.exponential(3.0, strip.shape), 0)
    return strip.astype(np.float32)


def of_sep(strip, bad=None):
    """Level and noise of each cell by SEP, whose histogram is finer."""
    rows = []
    for left, right in pairwise(EDGES):
        cell = strip[:, left:right]
        values = np.ascontiguousarray(cell.ravel() if bad is None else cell[~bad[:, left:right]])
        sky = sep.Background(values[None, :], bw=values.size, bh=1)
        rows.append((sky.globalback, sky.globalrms))
    return np.array(rows).T


@pytest.mark.parametrize("image", [noise, crowd])
@pytest.mark.parametrize("masked", [False, True])
def test_they_are_those_of_sep(image, masked):
    strip = image()
    bad = np.random.default_rng(9).random(strip.shape) < 0.2 if masked else None
    level, spread, seen = clipped_modes(strip, bad, EDGES, 0.0)
    expected = of_sep(strip, bad)
    # The chance error of a mode is 2.1 sigma over the root of the pixels: 0.022.
    np.testing.assert_allclose(level, expected[0], atol=0.02)
    np.testing.assert_allclose(spread, expected[1], rtol=0.01)
    np.testing.assert_allclose(seen, 1 if bad is None else 0.8, atol=0.02)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-6, 1e6), offset=st.floats(-1e3, 1e3), rows=st.integers(1, 100),
    cells=st.integers(1, 7), width=st.integers(8, 120),
)  # fmt: skip
def test_unit_and_offset_go_along(scale, offset, rows, cells, width):
    rng = np.random.default_rng(rows * cells * width)
    strip = rng.standard_normal((rows, width)).astype(np.float32)
    edges = np.unique(np.round(np.linspace(0, width, cells + 1)).astype(int))
    level, spread, _ = clipped_modes(strip, None, edges, 0.0)
    moved = ((strip.astype(np.float64) + offset) * scale).astype(np.float32)
    there, wider, _ = clipped_modes(moved, None, edges, 0.0)
    # In single precision an offset of 1e3 leaves steps of 6e-5.
    np.testing.assert_allclose(there / scale - offset, level, atol=0.1)
    np.testing.assert_allclose(wider / scale, spread, atol=0.05)


@pytest.mark.parametrize("wild", [np.nan, np.inf, -1e30])
def test_bad_pixels_may_hold_anything(wild):
    strip = noise(3)
    bad = np.zeros(strip.shape, bool)
    bad[10:30, 50:250] = True
    expected = clipped_modes(strip, bad, EDGES, 0.0)
    strip[bad] = wild
    np.testing.assert_array_equal(clipped_modes(strip, bad, EDGES, 0.0), expected)


def test_a_cell_without_pixels_is_told():
    strip = noise(4)
    bad = np.zeros(strip.shape, bool)
    bad[:, 96:192] = True
    bad[:, 192:289] = True
    bad[5, 200:240] = False
    level, spread, seen = clipped_modes(strip, bad, EDGES, 0.0)
    assert (level[1], spread[1], seen[1]) == (0, 0, 0)
    assert seen[2] == pytest.approx(40 / (96 * 97))
    assert spread[2] == pytest.approx(1, abs=0.4) and abs(level[2]) < 0.8
    assert np.all(spread[[0, 3]] > 0.9)


@pytest.mark.parametrize("step", [0.05, 0.2])
def test_fine_steps_leave_level_and_noise(step):
    strip = noise(5) + np.float32(0.37)
    stepped = (np.round(strip / step) * step).astype(np.float32)
    level, spread, _ = clipped_modes(stepped, None, EDGES, step)
    np.testing.assert_allclose(level, 0.37, atol=0.08)
    np.testing.assert_allclose(spread, 1.0, atol=0.03)


def test_coarse_steps_get_the_clipped_mean():
    strip = np.random.default_rng(6).poisson(0.8, (96, EDGES[-1])).astype(np.float32)
    level, spread, _ = clipped_modes(strip, None, EDGES, 1.0)
    for i, (left, right) in enumerate(pairwise(EDGES)):
        assert (level[i], spread[i]) == clipped_mean(strip[:, left:right].ravel(), 1.0)
    np.testing.assert_allclose(level, 0.8, atol=0.05)


def test_dark_pixels_and_bright_stars_move_nothing():
    strip = noise(7)
    level, spread, _ = clipped_modes(strip, None, EDGES, 0.0)
    strip[:, ::12] = -300.0  # a twelfth saw no light
    strip[::20, 5::20] = 1e5
    there, wider, _ = clipped_modes(strip, None, EDGES, 0.0)
    np.testing.assert_allclose(there, level, atol=0.1)
    np.testing.assert_allclose(wider, spread, rtol=0.05)
