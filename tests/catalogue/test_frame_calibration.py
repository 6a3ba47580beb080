"""A frame's own noise and planted sources: false detections, P_REAL, completeness, UNCERT."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from toy_models import toy_card

from bgrem.background import separate
from bgrem.catalogue.mirrored import FalseDetections, cut_part, mirrored_data
from bgrem.catalogue.planted import calibrate_frame, plant_sources, repeated_part
from bgrem.catalogue.source_measurement import measure_sources
from bgrem.inference.model import load_model
from bgrem.simulate import Scene, draw

SIDE = 512
LEVEL, RMS = 700.0, 12.0


@pytest.fixture(scope="module")
def model():
    return load_model("optical", threads=1)


@pytest.fixture(scope="module")
def alone(model):
    """``separate`` with the model."""
    return partial(separate, model=model)


@pytest.fixture(scope="module")
def field():
    """A field of stars and galaxies."""
    scene = Scene(shape=(SIDE, SIDE), stars=1500.0, large_galaxies=0.0, discs=0.0)
    return draw(scene, np.random.default_rng(41))


@pytest.fixture(scope="module")
def seen(field, alone):
    parts = alone(field.data, maps=("significance", "uncertainty"))
    _, measuring = measure_sources(parts, threshold=parts.provenance.signif_10, gain=2.2)
    return parts, measuring


@pytest.fixture(scope="module")
def calibration(seen, alone, model):
    parts, measuring = seen
    return calibrate_frame(parts, separate=alone, card=model.card, measuring=measuring, seed=3)


def noise(seed):
    sky = np.random.default_rng(seed).normal(LEVEL, RMS, (SIDE, SIDE))
    return sky.astype(np.float32)


def calibrated(data, alone, card, **keywords):
    parts = alone(data, **keywords)
    _, measuring = measure_sources(parts, threshold=parts.provenance.signif_10 or 0.0)
    return parts, calibrate_frame(parts, separate=alone, card=card, measuring=measuring)


def test_noise_has_as_many_false_detections_as_asked_for(alone, model):
    rate = 60.0
    expected, found = 0.0, 0
    for seed in (1, 2):
        parts, calibration = calibrated(noise(seed), alone, model.card)
        columns, _ = measure_sources(parts, threshold=calibration.threshold_for(rate))
        expected, found = expected + rate * SIDE**2 / 1e6, found + len(columns["x"])
        assert calibration.reason == ""
    # Three deviations of the number and of the curve, for which as many are counted in half of the frame.
    assert abs(found - expected) < 3 * np.sqrt(expected + 2 * expected)


def test_thresholds_invert_the_curve(calibration):
    for rate in (0.01, 1.0, 10.0, 200.0, 1e4):
        threshold = calibration.threshold_for(rate)
        np.testing.assert_allclose(calibration.false.above(threshold), rate, rtol=1e-6)


def test_probability_rises_with_significance(calibration):
    p = calibration.p_real(np.linspace(-3, 60, 200))
    assert (np.diff(p) >= 0).all()
    assert p.min() >= 0 and 0.97 < p.max() < 1
    assert np.isnan(calibration.p_real(np.array([np.nan]))).all()


def test_completeness_rises_with_flux(calibration):
    threshold = calibration.threshold_for(10)
    fitted = calibration.completeness_at(np.geomspace(0.7, 300, 50), threshold)
    assert (np.diff(fitted) >= 0).all()
    assert fitted[0] < 0.1 and fitted[-1] > 0.9
    points = [row for row in calibration.completeness(threshold) if row["kind"] == "points"]
    assert points[0]["completeness"] < 0.3 and points[-1]["completeness"] > 0.8
    fluxes = [row["flux"] for row in points]
    assert fluxes == sorted(fluxes)
    assert all(0 < row["error"] < 0.8 for row in points)


def test_a_higher_threshold_finds_fewer(calibration):
    low, high = (
        sum(row["found"] for row in calibration.completeness(calibration.threshold_for(rate)))
        for rate in (30, 1)
    )
    assert high < low


def test_bright_points_have_their_flux(calibration):
    rows = calibration.flux_bias(calibration.threshold_for(10))
    bright = [row for row in rows if row["kind"] == "points" and row["low"] >= 20]
    assert bright
    for row in bright:
        assert abs(row["psf"] - 1) < 0.05 + 3 * row["psf_error"]


def test_factors_of_the_uncertainty_are_moderate(calibration):
    scale = calibration.uncertainty_scale(np.array([[-1.0, 0.0], [2.0, 1e5]]))
    assert scale.shape == (2, 2)
    assert scale[0, 0] == 1 and (scale > 0.2).all() and (scale < 4).all()


def test_the_seed_repeats_it(seen, alone, model, calibration):
    parts, measuring = seen
    again = calibrate_frame(parts, separate=alone, card=model.card, measuring=measuring, seed=3)
    for name in again.planted.dtype.names:
        np.testing.assert_array_equal(again.planted[name], calibration.planted[name])
    np.testing.assert_array_equal(again.factor, calibration.factor)
    np.testing.assert_array_equal(again.false.per_mpix, calibration.false.per_mpix)


def test_planted_sources_take_two_percent_and_keep_apart(seen):
    parts, measuring = seen
    part = cut_part(parts, (slice(0, 256), slice(0, SIDE)), measuring.psf, 0.0)
    table, light = plant_sources(part, measuring, np.random.default_rng(0))
    area = len(table) * np.pi * (measuring.psf.fwhm / 2) ** 2
    assert 0.005 < area / part.image.size < 0.025
    place = np.column_stack([table["x"], table["y"]])
    apart = np.hypot(*(place[:, None] - place).transpose(2, 0, 1)) + 1e3 * np.eye(len(place))
    assert apart.min() > 1.4 * measuring.psf.fwhm
    np.testing.assert_allclose(light.sum() * part.unit, table["flux"].sum(), rtol=0.2)


def test_mirrored_noise_keeps_defects_bad_pixels_and_bright_stars(field, seen):
    parts, measuring = seen
    part = cut_part(parts, (slice(0, SIDE), slice(0, SIDE)), measuring.psf, 0.0)
    part.flags[5:9, 5:9] = 2
    data, clear = mirrored_data(part, 2.0)
    assert not clear[5:9, 5:9].any()
    np.testing.assert_array_equal(data[5:9, 5:9], field.data[5:9, 5:9])
    brightest = np.unravel_index(np.argmax(parts.sources), parts.sources.shape)
    assert data[brightest] > 0.8 * field.data[brightest] and not clear[brightest]
    rest = (data - parts.background)[clear] / part.unit
    was = (field.data - parts.background)[clear] / part.unit
    noise_alone = np.abs(was) < 4
    assert np.corrcoef(rest[noise_alone], was[noise_alone])[0, 1] < -0.9
    assert abs(np.median(rest)) < 0.1
    defects = was > 8
    assert defects.any()
    np.testing.assert_allclose(rest[defects], was[defects], atol=0.1)


def test_bad_pixels_do_no_harm(alone, model, field):
    data = field.data.copy()
    data[100:120, 200:260] = np.nan
    mask = np.zeros(data.shape, bool)
    mask[300:330, :] = True
    data[310, 100] = 1e9
    _, calibration = calibrated(data, alone, model.card, mask=mask)
    assert calibration.reason == ""
    table = calibration.planted
    column, row = (np.rint(table[axis]).astype(int) for axis in "xy")
    assert not (mask | np.isnan(data))[row, column].any()
    assert np.isfinite(table["flux"]).all() and np.isfinite(calibration.factor).all()


def test_without_sky_the_card_is_used(alone, model):
    data = noise(3)
    mask = np.ones(data.shape, bool)
    mask[:60, :] = mask[240:272, :] = False
    _, calibration = calibrated(data, alone, model.card, mask=mask)
    assert "too few" in calibration.reason
    known = model.card.calibration.threshold_for(10)
    assert calibration.threshold_for(10) == pytest.approx(known, abs=0.01)
    assert calibration.p_real(np.array([50.0])) == 0


def test_a_model_without_calibration_has_an_exponential_tail(toy_model):
    _, calibration = calibrated(noise(4), partial(separate, model=toy_model), toy_card())
    rates = [calibration.false.above(t) for t in (-2.5, -2.0, -1.5)]
    assert rates[0] > rates[1] > rates[2] > 0
    np.testing.assert_allclose(rates[0] / rates[1], rates[1] / rates[2], rtol=1e-6)


def test_neither_frame_nor_card_gives_nothing(toy_model):
    silent = replace(toy_card(), calibration=None)
    parts = separate(noise(5), model=toy_model)
    _, measuring = measure_sources(parts, threshold=50.0)
    toy = partial(separate, model=toy_model)
    assert calibrate_frame(parts, separate=toy, card=silent, measuring=measuring) is None


def test_curve_beyond_its_ends():
    false = FalseDetections(np.array([0.0, 1.0, 2.0]), np.array([100.0, 10.0, 1.0]))
    assert false.above(3.0) == pytest.approx(0.1)
    assert false.threshold_for(1000.0) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("shape", "most"),
    [
        ((300, 320), 192 * 320),
        ((1000, 1000), 360_000),
        ((10560, 10560), 2048**2),
        ((40, 200_000), 8e6),
    ],
)
def test_the_part_that_is_repeated_is_small(shape, most):
    part = [len(range(n)[cut]) for n, cut in zip(shape, repeated_part(shape), strict=True)]
    assert 0 < np.prod(part) <= most
