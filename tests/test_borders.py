"""Zero-filled borders are no data, and the zeros of counts maps are."""

import numpy as np
import pytest

from bgrem.borders import zero_border


def sky(shape=(120, 150), seed=0):
    return np.random.default_rng(seed).normal(0, 5, shape).astype(np.float32)


def rotated(shape=(120, 150)):
    """True outside a rotated frame."""
    y, x = np.indices(shape)
    return (x + 2 * y < 90) | (x - 2 * y > 100)


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", ">f4", "f8"])
def test_a_filled_border_is_found(dtype):
    outside = rotated()
    data = np.where(outside, 0, 1000 + sky()).astype(dtype)
    np.testing.assert_array_equal(zero_border(data), outside)


def test_frames_without_one():
    assert zero_border(sky()) is None
    data = sky().round()  # a twelfth of the pixels is 0
    assert zero_border(data) is None
    data[40:70, 50:90] = 0  # a hole is no border
    assert zero_border(data) is None
    assert zero_border(np.zeros((40, 50))) is None


@pytest.mark.parametrize("mean", [0.003, 0.03, 0.3, 1.0, 3.0])
def test_counts_have_none(mean):
    counts = np.random.default_rng(1).poisson(mean, (200, 200)).astype(np.float32)
    assert zero_border(counts) is None


def test_zeros_within_the_image_stay():
    data = np.where(rotated(), 0, 1000 + sky())
    data[60, 80:84] = 0
    assert not zero_border(data)[60, 80:84].any()


def test_a_dead_column_is_left_to_the_model():
    data = 1000 + sky()
    data[:, 30] = 0
    assert zero_border(data) is None
