"""A weight map gives the noise map its shape; the measured noise gives it its scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skies import flat_sky, gaussian_stars

from bgrem.background import separate
from bgrem.masks.flags import ARTEFACT, NO_DATA
from bgrem.sky.weights import WEIGHT_TYPES, rms_of_weight

SHAPE = (160, 180)


def true_rms():
    """Three times as noisy in its right half, a chip gap less deep at the bottom."""
    rms = np.full(SHAPE, 4.0)
    rms[:, 90:] *= 3
    rms[:7] *= 2
    return rms


def weight_of(rms, kind):
    return {"inverse": 1 / rms**2, "variance": rms**2, "rms": rms}[kind]


def frame(seed=0):
    return flat_sky(SHAPE, 1000, true_rms(), seed=seed, dtype=float)


@pytest.mark.parametrize("kind", WEIGHT_TYPES)
@pytest.mark.parametrize("unit", [1.0, 1e-12, 3e8])
def test_the_rms_follows_the_weight(toy_model, kind, unit):
    weight = weight_of(true_rms() * unit, kind)
    parts = separate(frame(), weight=weight, weight_type=kind, model=toy_model, box=64)
    ratio = parts.rms / true_rms()
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-5)
    assert np.median(ratio) == pytest.approx(1, abs=0.07)
    expected = np.hypot(parts.rms, parts.background_error)  # log-variance 0
    np.testing.assert_allclose(parts.uncertainty, expected, rtol=1e-6)
    assert parts.provenance["weight"] == kind
    total = parts.sources + parts.background + parts.noise
    np.testing.assert_allclose(total, frame(), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "empty"), [("inverse", 0), ("variance", np.inf), ("rms", np.inf), ("variance", -1)]
)
def test_no_weight_is_no_data(toy_model, kind, empty):
    lost = np.zeros(SHAPE, bool)
    lost[40:60, 100:150] = True
    weight = np.where(lost, empty, weight_of(true_rms(), kind))
    data = frame()
    wild = np.where(lost, 1e7, data)
    parts = separate(wild, weight=weight, weight_type=kind, model=toy_model)
    np.testing.assert_array_equal((parts.mask & NO_DATA) != 0, lost)
    assert not parts.sources[lost].any()
    assert np.isfinite(parts.rms).all() and (parts.rms > 0).all()
    nan = np.where(lost, np.nan, data)
    other = separate(nan, weight=weight, weight_type=kind, model=toy_model)
    np.testing.assert_array_equal(other.sources[~lost], parts.sources[~lost])


def test_photon_noise_of_sources_is_taken_off(toy_model):
    y, x = np.indices(SHAPE)
    light = sum(
        3e4 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 8)
        for a, b in [(30, 40), (70, 120), (120, 60), (150, 130), (40, 90)]
    )
    variance = true_rms() ** 2 + light / 2.0
    data = 1000 + light + np.random.default_rng(1).normal(size=SHAPE) * np.sqrt(variance)
    parts = separate(data, weight=variance, weight_type="variance", model=toy_model, box=64)
    ratio = parts.rms / true_rms()
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert np.quantile(ratio, 0.99) < 1.5
    assert ratio.max() < 8  # with the photon noise of the brightest star it would be 30


def test_norm_sets_the_scale(toy_model):
    parts = separate(frame(), weight=np.ones(SHAPE), norm=0.05, model=toy_model)
    np.testing.assert_allclose(parts.rms, 20, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(WEIGHT_TYPES),
    dtype=st.sampled_from(["u1", "i2", ">f4", "f8"]),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_rms_of_weight(kind, dtype, shape):
    rng = np.random.default_rng(5)
    weight = rng.integers(0, 4, shape).astype(dtype)
    weight[0, 0] = 1
    noise = rms_of_weight(weight, kind, shape)
    assert noise.dtype == np.float32 and noise.shape == shape
    np.testing.assert_array_equal(np.isnan(noise), weight == 0)


@pytest.mark.parametrize(
    ("weight", "kind", "message"),
    [
        (np.ones((3, 3)), "inverse", "the weight has shape"),
        (np.zeros(SHAPE), "inverse", "no pixel has data"),
        (np.ones(SHAPE), "exposure", "unknown type of weight 'exposure'; there are inverse"),
        (np.full(SHAPE, "x"), "rms", "real numbers"),
    ],
)
def test_weights_that_cannot_be_used(weight, kind, message):
    with pytest.raises(ValueError, match=message):
        rms_of_weight(weight, kind, SHAPE)


# --- whatever weights some pixels have, the level is that of the others


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    count=st.integers(1, 1500),
    block=st.booleans(),
    exponent=st.one_of(st.none(), st.floats(-12, 12)),
    value=st.sampled_from([-1e6, -300.0, 0.0, 1030.0, 5e4, 1e9]),
)
def test_outliers_with_wild_weights_move_nothing(seed, count, block, exponent, value):
    rng = np.random.default_rng(seed)
    data, weight = flat_sky(SHAPE, 1000, 5.0, seed=seed, dtype=float), np.ones(SHAPE)
    before = separate(data, box=64, maps=()).background
    if block:
        side = int(np.sqrt(count)) + 1
        place = np.s_[20 : 20 + side, 100 : 100 + side]
    else:
        place = np.unravel_index(rng.choice(data.size, count, replace=False), SHAPE)
    data[place] = value
    weight[place] = rng.choice([0.0, np.nan]) if exponent is None else 10.0**exponent
    parts = separate(data, weight=weight, box=64, maps=())
    moved = np.abs(parts.background - before)
    # 1500 of 28800 pixels at 4 sigma, which no estimate distinguishes from the sky, would move the mean by 1.
    assert moved.max() < 2.5, (moved.max(), np.median(moved))
    assert np.median(moved) < 0.5


def test_a_rim_of_low_weight_is_not_the_sky(toy_model):
    data, weight = flat_sky((300, 300), 100.0, 5.0, dtype=float), np.ones((300, 300))
    data[:40], weight[:40] = -500.0, 1e-3
    parts = separate(data, weight=weight, model=toy_model, box=96)
    assert np.abs(parts.background - 100).max() < 3


def test_a_shallow_half_keeps_its_own_sky(toy_model):
    rms = np.full((600, 800), 2.0)
    rms[:, 400:] = 20.0
    level = np.where(rms > 2, 130.0, 100.0)
    data = level + rms * np.random.default_rng(3).normal(size=rms.shape)
    parts = separate(data, weight=1 / rms**2, model=toy_model, box=96)
    assert np.median(parts.background[:, 600:]) == pytest.approx(130, abs=1)
    assert np.median(parts.background[:, :200]) == pytest.approx(100, abs=0.5)
    assert np.median((parts.rms / rms)[:, 600:]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("weight", [0.03, 1e-3, 1e-6])
def test_rows_of_low_weight_cut_no_star(weight):
    light = gaussian_stars(SHAPE, [100], [80], 3000, 1.6)
    weights = np.ones(SHAPE)
    weights[82:86] = weight
    parts = separate(flat_sky(SHAPE, 300, 17, dtype=float) + light, weight=weights, maps=())
    y, x = np.indices(SHAPE)
    good, near = weights == 1, np.hypot(x - 100, y - 80) < 30
    # In the sum over the frame, 0.005 rms of empty sky are 0.05 of the star.
    star = parts.sources[good & near].sum() / light[good & near].sum()
    assert star == pytest.approx(1, abs=0.05)
    assert abs(parts.sources[good & ~near].mean()) < 0.005 * 17
    assert (parts.mask[82:86] & NO_DATA > 0).mean() > 0.98


@pytest.mark.parametrize("weight", [0.1, 1e-2, 1e-4])
def test_a_noisy_edge_holds_no_light(weight):
    weights = np.ones((200, 200))
    weights[:, :30] = weight
    noise = np.random.default_rng(4).normal(size=weights.shape) / np.sqrt(weights)
    parts = separate(300 + 17 * noise, weight=weights, maps=())
    # At an rms of 3.2 times that around, the edge is noisy data, farther above it is none.
    low = ["15% of the pixels are without data: their rms is above 5 times that around"]
    assert parts.provenance.warnings == ([] if weight == 0.1 else low)
    assert (parts.mask & NO_DATA > 0).mean() == (0 if weight == 0.1 else 0.15)
    assert not (parts.mask & ARTEFACT).any()


def test_bright_stars_keep_their_cores_under_their_own_noise():
    light = gaussian_stars(SHAPE, [60, 130], [80, 40], 5e4, 1.6)
    variance = 25 + light
    data = 300 + light + np.sqrt(variance) * np.random.default_rng(5).normal(size=SHAPE)
    parts = separate(data, weight=variance, weight_type="variance", maps=())
    assert not (parts.mask & NO_DATA).any()
    assert parts.sources.sum() / light.sum() == pytest.approx(1, abs=0.05)
