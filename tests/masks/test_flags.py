"""The bits of the mask: what is known of a pixel before the model sees it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skies import flat_sky

from bgrem.background import separate
from bgrem.masks.flags import MASKED, MEANINGS, NO_DATA, NOT_FINITE, flag_pixels


def sky(shape=(60, 70), seed=0):
    return flat_sky(shape, seed=seed, dtype=float)


def test_each_bit_has_a_meaning():
    assert sorted(MEANINGS) == [1, 2, 4, 8, 16, 32]


@settings(max_examples=20, deadline=None)
@given(bad=arrays(bool, (60, 70)), lost=arrays(bool, (60, 70)), dtype=st.sampled_from("fdl"))
def test_flags_add_up(bad, lost, dtype):
    data = sky().astype(dtype)
    flags = flag_pixels(data, mask=bad, no_data=lost)
    np.testing.assert_array_equal((flags & MASKED) != 0, bad)
    np.testing.assert_array_equal((flags & NO_DATA) != 0, lost)
    assert flags.dtype == np.uint8


def test_nan_and_inf_are_not_finite():
    data = sky()
    data[0, :3] = np.nan, np.inf, -np.inf
    flags = flag_pixels(data)
    assert (flags[0, :3] & NOT_FINITE).all()


def test_wrong_maps():
    with pytest.raises(ValueError, match="the mask has shape"):
        flag_pixels(sky(), mask=np.zeros((2, 2)))


def test_a_filled_border_does_not_spread(toy_model):
    data = sky((96, 128))
    outside = np.zeros(data.shape, bool)
    outside[:, :40] = True
    zero, wild = data.copy(), data.copy()
    zero[outside] = 0
    wild[outside] = 1e6
    parts = separate(zero, model=toy_model)
    masked = separate(wild, mask=outside, model=toy_model)
    np.testing.assert_array_equal(parts.sources, masked.sources)
    np.testing.assert_array_equal((parts.mask & NO_DATA) != 0, outside)
    assert not parts.sources[outside].any()
    total = parts.sources + parts.background + parts.noise
    np.testing.assert_allclose(total, zero, atol=1e-9)
