"""The input of a sky network: without unit and level, of a size that it takes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skies import white_noise

from bgrem.sky.blocks import block_statistics
from bgrem.sky.network_input import SKY_MULTIPLE, network_input


def statistics(shape=(96, 160), seed=0):
    return block_statistics(white_noise(shape, seed=seed)).planes


def inside(given):
    """The part of the planes that is the frame."""
    known = np.argwhere(given.planes[5] > 0)
    (top, left), (bottom, right) = known.min(0), known.max(0) + 1
    return given.planes[:, top:bottom, left:right]


@settings(max_examples=30, deadline=None)
@given(cells=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_any_size_is_padded_evenly(cells):
    planes = np.ones((6, 2 * cells[0], 2 * cells[1]), np.float32)
    given = network_input(planes)
    assert given.planes.dtype == np.float32 and np.isfinite(given.planes).all()
    for side, blocks, first in zip(
        given.planes.shape[1:], planes.shape[1:], given.first, strict=True
    ):
        assert side % SKY_MULTIPLE == 0 and side - blocks < SKY_MULTIPLE
        assert first % 2 == 0 and 0 <= side - blocks - 2 * first <= 2
    assert inside(given).shape[1:] == planes.shape[1:]
    assert np.count_nonzero(given.planes[5]) == planes[0].size


def test_level_and_noise_are_the_frames():
    planes = statistics()
    given = network_input(planes)
    assert given.level == pytest.approx(0, abs=0.05)
    assert given.unit == pytest.approx(1, abs=0.15)
    part = inside(given)
    np.testing.assert_allclose(part[:4] * given.unit + given.level, planes[:4], atol=1e-5)
    np.testing.assert_allclose(part[4] * given.unit, planes[4], rtol=1e-5)
    np.testing.assert_array_equal(part[5], planes[5])


def test_neither_unit_nor_offset_are_seen():
    planes = statistics()
    moved = planes.copy()
    moved[:5] *= np.float32(250.0)
    moved[:4] += np.float32(1e4)
    one, other = network_input(planes), network_input(moved)
    assert other.unit == pytest.approx(250 * one.unit, rel=1e-6)
    assert other.level == pytest.approx(250 * one.level + 1e4, rel=1e-6)
    np.testing.assert_allclose(other.planes, one.planes, atol=1e-4)


def test_places_run_over_the_frame():
    part = inside(network_input(statistics()))
    by, bx = part.shape[1:]
    np.testing.assert_allclose(part[6, 3], (2 * np.arange(bx) + 1) / bx - 1, atol=1e-6)
    np.testing.assert_allclose(part[7, :, 5], (2 * np.arange(by) + 1) / by - 1, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -7.0])
def test_blocks_without_pixels_may_hold_anything(value):
    planes = statistics()
    planes[:, 2:5, 3:9] = 0
    expected = network_input(planes)
    planes[:5, 2:5, 3:9] = value
    found = network_input(planes)
    np.testing.assert_array_equal(found.planes, expected.planes)
    assert (found.level, found.unit) == (expected.level, expected.unit)
    part = inside(found)[:, 2:5, 3:9]
    assert not part[:4].any() and not part[5].any() and (part[4] == 1).all()


def test_bright_sources_are_no_unit():
    planes = statistics((320, 320))
    bright = np.random.default_rng(1).random(planes.shape[1:]) < 0.5
    planes[4, bright] *= 1000
    assert network_input(planes).unit == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("spreads", "unit"), [((0, 0, 0, 0), 1), ((0, 0, 0, 5), 5)])
def test_the_unit_is_above_zero(spreads, unit):
    planes = np.ones((6, 2, 2), np.float32)
    planes[4] = np.reshape(spreads, (2, 2))
    assert network_input(planes).unit == unit
    assert np.isfinite(network_input(planes).planes).all()
