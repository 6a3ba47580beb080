"""Saturated cores keep the observed value."""

import numpy as np
import pytest

from bgrem.background import separate
from bgrem.masks.flags import ARTEFACT, SATURATED

LEVEL = 3000.0


@pytest.fixture
def frame():
    """A star clipped at LEVEL and a hot pixel of that height, on a noisy sky."""
    rng = np.random.default_rng(3)
    y, x = np.indices((120, 130))
    data = 100 + rng.normal(0, 5, y.shape) + 2e4 * np.exp(-((x - 60) ** 2 + (y - 50) ** 2) / 20)
    data[20, 100] = 1e4
    return np.minimum(data, LEVEL)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("as_map", [False, True])
def test_the_core_keeps_its_light(frame, toy_model, dtype, as_map):
    data = frame.astype(dtype)
    core = data >= LEVEL
    parts = separate(data, saturate=core if as_map else LEVEL, model=toy_model)
    np.testing.assert_array_equal((parts.mask & SATURATED) != 0, core)
    assert parts.provenance["saturate"] == (None if as_map else LEVEL)
    core[20, 100] = False
    np.testing.assert_allclose((parts.sources + parts.background)[core], LEVEL, rtol=1e-6)
    np.testing.assert_allclose(parts.noise[core], 0, atol=1e-3)
    total = parts.sources + parts.background + parts.noise
    np.testing.assert_allclose(total, data, rtol=1e-6)


def test_a_hot_pixel_is_none(frame, toy_model):
    parts = separate(frame, saturate=LEVEL, model=toy_model)
    assert parts.mask[20, 100] == ARTEFACT | SATURATED
    assert parts.noise[20, 100] > 0.5 * LEVEL


def test_the_rest_is_as_without(frame, toy_model):
    # A mesh has no wide light, of which saturated pixels are no measure.
    parts = separate(frame, saturate=LEVEL, model=toy_model, sky="mesh")
    without = separate(frame, model=toy_model, sky="mesh")
    rest = frame < LEVEL
    np.testing.assert_array_equal(parts.sources[rest], without.sources[rest])
    assert not (without.mask & SATURATED).any()


def test_masked_and_saturated_is_masked(frame, toy_model):
    parts = separate(frame, saturate=LEVEL, mask=frame >= LEVEL, model=toy_model)
    assert not parts.sources[frame >= LEVEL].any()


def test_wrong_levels_and_maps(frame, toy_model):
    with pytest.raises(ValueError, match="map of saturated pixels has shape"):
        separate(frame, saturate=np.zeros((2, 2), bool), model=toy_model)
    with pytest.raises(ValueError, match="saturation level must be finite"):
        separate(frame, saturate=np.nan, model=toy_model)


def test_nan_is_not_saturated(frame, toy_model):
    frame[0, :2] = np.nan, np.inf
    parts = separate(frame, saturate=LEVEL, model=toy_model)
    assert not parts.mask[0, 0] & SATURATED


@pytest.mark.parametrize("saturate", [110.0, 100.0, 1.0, -50.0])
def test_a_level_in_the_sky_is_ignored(frame, toy_model, saturate):
    parts = separate(frame, saturate=saturate, model=toy_model)
    without = separate(frame, model=toy_model)
    assert not (parts.mask & SATURATED).any()
    np.testing.assert_array_equal(parts.sources, without.sources)
    assert any("is ignored" in line for line in parts.provenance.warnings)
    assert parts.provenance.saturate is None


def test_a_map_of_nearly_everything_is_ignored(frame, toy_model):
    everything = np.ones(frame.shape, bool)
    parts = separate(frame, saturate=everything, model=toy_model)
    assert not (parts.mask & SATURATED).any()
    assert any("map of saturated pixels is ignored" in w for w in parts.provenance.warnings)
