"""The median of the eight neighbours, against numpy's; mosaics; bad pixels."""

import numpy as np
import pytest

from bgrem.defects.neighbours import above_neighbours


def test_median_of_eight_is_that_of_numpy():
    x = np.random.default_rng(1).standard_normal((20, 30)).astype(np.float32)
    above, around = above_neighbours(x)
    for y, column in ((1, 1), (10, 15), (18, 28)):
        window = x[y - 1 : y + 2, column - 1 : column + 2].ravel()
        assert around[y, column] == pytest.approx(np.median(np.delete(window, 4)))
    assert np.allclose(above, x - around)


def test_one_defect_changes_nothing_around_it():
    x = np.random.default_rng(2).standard_normal((20, 20)).astype(np.float32)
    hot = x.copy()
    hot[10, 10] = 1000
    assert np.abs(above_neighbours(hot)[1] - above_neighbours(x)[1]).max() < 3


def test_colours_are_compared_with_their_own():
    x = np.zeros((20, 20), np.float32)
    x[::2, ::2] = 50.0
    assert np.abs(above_neighbours(x, (2, 2))[0]).max() == 0


def test_bad_pixels_are_unknown_and_nobodys_neighbours():
    x = np.zeros((20, 20), np.float32)
    x[8:12, 8:12] = np.nan
    above, around = above_neighbours(x)
    assert np.isnan(above).sum() == 16
    assert np.abs(around).max() == 0
