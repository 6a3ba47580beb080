"""The mode of a sample."""

import numpy as np
import pytest

from bgrem.arrays.statistics import half_sample_mode


def test_the_crowd_wins_over_the_tail():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(1.0, 0.02, 60), rng.uniform(1.1, 5.0, 80)])
    assert half_sample_mode(values) == pytest.approx(1.0, abs=0.03)
    assert half_sample_mode(rng.permutation(values)) == half_sample_mode(values)


def test_few_values_have_their_mean():
    assert half_sample_mode(np.array([3.0])) == 3.0
    assert half_sample_mode(np.array([5.0, 1.0, 3.0])) == 3.0
    # Of four the closest two.
    assert half_sample_mode(np.array([0.0, 4.0, 9.0, 4.2])) == pytest.approx(4.1)
