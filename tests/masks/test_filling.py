"""Bad pixels are filled before the network sees them, and no part shows it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skies import gaussian_stars, white_noise

from bgrem.background import separate
from bgrem.masks.filling import fill_bad_pixels, filled

SHAPE = (70, 90)
PLACES = np.array([(20.3, 22.8), (64.9, 21.2), (24.6, 50.5), (70.2, 52.1)])


def star_frame(height=600.0, sigma=1.2):
    """Four stars, their light and their noisy image."""
    light = gaussian_stars(SHAPE, *PLACES.T, height, sigma)
    return light, (light + white_noise(SHAPE, seed=2)).astype(np.float32)


def hole(kind):
    """Bad pixels through every star."""
    rows, columns = np.indices(SHAPE)
    bad = np.zeros(SHAPE, bool)
    for x, y in PLACES:
        near = (abs(columns - x) < 12) & (abs(rows - y) < 12)
        bad |= {
            "core": np.hypot(columns - x, rows - y) < 1.3,
            "column": near & (columns == round(x) + 1),
            "row": near & (rows == round(y)),
            "border": near & (columns > x + 1),
        }[kind]
    return bad


@settings(max_examples=30, deadline=None)
@given(
    bad=arrays(bool, (21, 34), elements=st.booleans()),
    wild=st.sampled_from([np.nan, np.inf, -1e30, 0.0]),
)
def test_good_pixels_stay_as_they_are(bad, wild):
    x = white_noise((21, 34))
    result = filled(np.where(bad, np.float32(wild), x), bad)
    np.testing.assert_array_equal(result[~bad], x[~bad])
    np.testing.assert_array_equal(result, filled(np.where(bad, np.float32(7), x), bad))
    assert np.isfinite(result).all()
    assert result.dtype == np.float32


def test_a_level_is_continued_to_any_depth():
    x, bad = np.full((90, 120), 3.0, np.float32), np.zeros((90, 120), bool)
    bad[30:52, 40:62] = True
    np.testing.assert_allclose(filled(x, bad), 3.0, rtol=1e-5)


def test_far_from_any_good_pixel_is_sky():
    x, bad = np.full((20, 600), 3.0, np.float32), np.zeros((20, 600), bool)
    bad[:, 40:] = True
    result = filled(x, bad)
    np.testing.assert_allclose(result[:, 40:42], 3.0, rtol=1e-5)
    assert not result[:, 80:].any()


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.transpose])
def test_small_holes_do_not_know_directions(turn):
    x, bad = white_noise((64, 64)), np.zeros((64, 64), bool)
    bad[10:12, 20:22] = bad[40] = bad[:, 50] = True
    np.testing.assert_allclose(turn(filled(x, bad)), filled(turn(x), turn(bad)), atol=1e-6)


def test_strips_fill_as_the_whole():
    x = white_noise((200, 300))
    bad = np.random.default_rng(1).random(x.shape) < 0.1
    bad[90:140, 100:160] = True
    pixels = np.where(bad, np.float32(-1e9), x)
    fill_bad_pixels(pixels, bad, np.zeros_like(x), np.ones_like(x))
    np.testing.assert_allclose(pixels, filled(x, bad), atol=1e-6)


@pytest.mark.parametrize("kind", ["core", "column", "row", "border"])
@pytest.mark.parametrize("masked", [False, True], ids=["NaN", "mask"])
def test_light_beside_a_hole_is_kept(kind, masked):
    light, x = star_frame()
    bad = hole(kind)
    data = (10 * x + 1000).astype(np.float32)
    if masked:
        parts = separate(np.where(bad, np.float32(65535), data), mask=bad, maps=())
    else:
        parts = separate(np.where(bad, np.float32(np.nan), data), maps=())
    rows, columns = np.indices(SHAPE)
    for place in PLACES:
        good = ~bad & (np.hypot(columns - place[0], rows - place[1]) < 5)
        assert parts.sources[good].sum() / (10 * light[good].sum()) > 0.93
    values = parts.sources[bad]
    assert np.isnan(values).all() if not masked else not values.any()
    if masked:
        total = parts.sources + parts.background + parts.noise
        np.testing.assert_allclose(total[bad], 65535, rtol=1e-6)
