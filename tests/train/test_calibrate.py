"""Calibration of a model on simulated frames."""

import numpy as np
import pytest

from bgrem.train.calibrate import (
    CIRCLES,
    _circle_correlations,
    _clipped_rms,
    calibrate,
    fit_factors,
)


def test_factors_are_found_again():
    rows, columns = np.array([0.5, 1.0, 2.0]), np.array([0.8, 1.25])
    number = np.random.default_rng(0).integers(1000, 9000, (5, 3, 2)).astype(np.float64)
    found = fit_factors(number, number * np.outer(rows, columns) ** 2)
    np.testing.assert_allclose(np.outer(*found), np.outer(rows, columns), rtol=1e-4)


@pytest.fixture(scope="module")
def tables(toy_model):
    return calibrate(toy_model, seed=3, scenes=12, size=384)


def test_calibration_is_reproducible(toy_model, tables):
    assert calibrate(toy_model, seed=3, scenes=12, size=384) == tables
    assert calibrate(toy_model, seed=2, scenes=8, size=384) != tables


def test_tables_rise_and_fall(tables):
    assert len(tables.sigma) == 1  # the toy model is equally sure of everything
    for nodes in (tables.brightness, tables.threshold):
        assert len(nodes) > 2
        assert (np.diff(nodes) > 0).all()
    assert (np.diff(tables.false_alarms) < 0).all()
    assert min(tables.sigma_factor + tables.brightness_factor) > 0


def test_sums_are_calibrated_on_their_own_frames(toy_model):
    """Errors that are one number over a circle widen its sum by the root of its pixels."""
    rng = np.random.default_rng(5)
    rows = [np.stack([np.full(500, 3.0), 4.0 * rng.standard_normal(500)])] * len(CIRCLES)
    table = _circle_correlations([(2.5, rows)])
    assert table["circle_radius"] == CIRCLES
    assert table["circle_brightness"] == pytest.approx((3.0,))
    assert np.ravel(table["circle_correlation"]) == pytest.approx(15**0.5 / 2.5, rel=0.1)


def test_too_few_circles_leave_no_table():
    assert _circle_correlations([(3.0, [np.ones((2, 10))] * len(CIRCLES))]) == {}


def test_an_outlier_does_not_widen_all_error_bars():
    pull = np.append(np.random.default_rng(6).standard_normal(2000), [1e4, -300.0])
    assert _clipped_rms(pull) == pytest.approx(1.0, rel=0.05)
