"""Borders that are zero-filled or saw no light are no data, and the zeros of counts maps are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skies import flat_sky

from bgrem.background import separate
from bgrem.masks import borders
from bgrem.masks.borders import unlit_border, zero_border
from bgrem.masks.flags import NO_DATA


def sky(shape=(120, 150), seed=0):
    return flat_sky(shape, 0, seed=seed)


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


# --- overscan


def overscanned(shape=(150, 210), top=0, left=0, bottom=0, right=0, depth=100.0):
    """A frame of level 1000 and noise 5 whose edges saw no light, and have the noise of the readout."""
    data = 1000 + sky(shape)
    lit = np.zeros(shape, bool)
    lit[top : shape[0] - bottom, left : shape[1] - right] = True
    data[~lit] = 1000 - depth + 0.2 * (data[~lit] - 1000)
    return data.astype(np.float32), ~lit


@pytest.mark.parametrize(
    "strips", [{"top": 19, "left": 12}, {"right": 32, "bottom": 1}, {"left": 50}, {"top": 3}]
)
def test_overscan_is_found_to_the_pixel(strips):
    data, dark = overscanned(**strips)
    edges = unlit_border(data)
    np.testing.assert_array_equal(edges[0 : len(data)], dark)
    np.testing.assert_array_equal(edges[37:90], dark[37:90])


def test_a_part_of_long_lines_tells_the_same(monkeypatch):
    monkeypatch.setattr(borders, "LINE_SAMPLES", 40)
    data, dark = overscanned(top=19, right=12)
    np.testing.assert_array_equal(unlit_border(data)[0:150], dark)


def test_bleeding_and_lost_pixels_hide_no_overscan():
    data, dark = overscanned(top=10, right=20)
    data[:, 60:64] = 3000  # a bleeding column
    data[:4] = np.nan
    np.testing.assert_array_equal(unlit_border(data)[0:150], dark)


def test_an_amplifier_under_sky_is_no_overscan():
    data = 1000 + sky((150, 210))
    data[:20] -= 200
    assert unlit_border(data) is None


def test_what_is_no_overscan():
    y, x = np.indices((150, 210))
    flat, _ = overscanned()
    assert unlit_border(flat) is None
    assert unlit_border(flat - 0.02 * ((x - 105) ** 2 + (y - 75) ** 2)) is None  # vignetting
    assert unlit_border(flat + 5 * x) is None  # a gradient
    assert unlit_border(overscanned(top=60)[0]) is None  # the half of a mosaic
    assert unlit_border(overscanned(top=10, depth=10)[0]) is None  # a step of 2 sigma
    assert unlit_border(np.random.default_rng(2).poisson(0.2, (80, 90)).astype(np.float32)) is None
    assert unlit_border(np.full((40, 50), 3.0)) is None
    assert unlit_border(np.full((40, 50), np.nan)) is None
    bright = flat + 1e4 * np.exp(-((x - 105) ** 2 + (y - 75) ** 2) / 800)  # a galaxy in the middle
    assert unlit_border(bright) is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), shape=st.tuples(st.integers(16, 90), st.integers(16, 90)))
def test_plain_frames_of_any_shape_have_no_overscan(seed, shape):
    assert unlit_border(1000 + sky(shape, seed)) is None


def test_overscan_has_no_sources(toy_model):
    data, dark = overscanned(top=19, left=12)
    parts = separate(data, model=toy_model)
    np.testing.assert_array_equal(parts.mask & NO_DATA != 0, dark)
    assert not parts.sources[dark].any()
    total = parts.sources.astype(np.float64) + parts.background + parts.noise
    np.testing.assert_allclose(total, data, rtol=1e-6)
    assert abs(np.median(parts.background[dark]) - 1000) < 2
    assert np.all(np.abs(parts.rms - 5) < 1)
