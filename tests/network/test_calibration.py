"""Calibration of the uncertainty and the significance in a model's card."""

from dataclasses import replace

import numpy as np
import pytest

from bgrem.network.calibration import Calibration

TABLES = Calibration(
    sigma=(0.01, 1.0), sigma_factor=(1.0, 3.0), brightness=(0.0, 100.0),
    brightness_factor=(1.0, 0.5), threshold=(-4.0, -2.0, 1.0), false_alarms=(1000.0, 100.0, 1.0),
    circle_radius=(1.0, 2.0), circle_brightness=(0.0, 100.0), circle_correlation=((3.0, 2.0), (5.0, 4.0)),
)  # fmt: skip


def test_tables_survive_json():
    assert Calibration.from_json(TABLES.to_json()) == TABLES


@pytest.mark.parametrize(
    ("sigma", "sources", "expected"),
    [(0.01, 0.0, 0.01), (1.0, 0.0, 3.0), (0.1, 0.0, 0.2), (1.0, 100.0, 1.5), (9.0, 1e6, 13.5)],
)
def test_uncertainty_follows_the_tables(sigma, sources, expected):
    found = TABLES.uncertainty(np.float32([sigma]), np.float32([sources]))
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(expected, rel=1e-5)


def test_thresholds_and_rates_are_inverse():
    for rate in (1.0, 7.0, 100.0, 640.0, 1000.0):
        assert TABLES.false_alarms_above(TABLES.threshold_for(rate)) == pytest.approx(rate)
    assert TABLES.threshold_for(10.0) == pytest.approx(-0.5)


@pytest.mark.parametrize("rate", [0.5, 2000.0])
def test_rates_outside_the_table_are_refused(rate):
    with pytest.raises(ValueError, match="known from 1 to 1e\\+03 per Mpix"):
        TABLES.threshold_for(rate)


@pytest.mark.parametrize(
    ("radius", "brightness", "correlation"),
    [(0.0, 0.0, 0.0), (0.5, 0.0, 1.5), (1.0, 1e3, 2.0), (1.5, -5.0, 4.0), (9.0, 100.0, 4.0)],
)
@pytest.mark.parametrize("fwhm", [1.2, 8.0])
def test_errors_of_sums_are_wider(radius, brightness, correlation, fwhm):
    """By the pixels of a star's image, of which finer sampled frames have more."""
    found = TABLES.of_circles(radius, [brightness], fwhm=fwhm)
    assert found == pytest.approx([np.hypot(1.0, correlation * fwhm)])


def test_other_versions_have_no_calibrated_sums():
    former = TABLES.to_json().replace("circle_correlation", "circle_factor")
    found = Calibration.from_json(former)
    assert found.uncertainty(np.float32([1.0]), np.float32([0.0])) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="no calibration of the uncertainty of sums"):
        found.of_circles(1.0, [1.0], fwhm=3.0)


def test_cards_may_have_no_calibrated_sums():
    with pytest.raises(ValueError, match="no calibration of the uncertainty of sums"):
        replace(TABLES, circle_radius=()).of_circles(1.0, [1.0], fwhm=3.0)
