"""Calibration of a model on simulated frames."""

import numpy as np
import pytest

from bgrem.calibrate import calibrate, fit_factors


def test_factors_are_found_again():
    rows, columns = np.array([0.5, 1.0, 2.0]), np.array([0.8, 1.25])
    number = np.random.default_rng(0).integers(1000, 9000, (3, 2)).astype(np.float64)
    found = fit_factors(number, number * np.outer(rows, columns) ** 2)
    np.testing.assert_allclose(np.outer(*found), np.outer(rows, columns), rtol=1e-4)


@pytest.fixture(scope="module")
def tables(toy_model):
    return calibrate(toy_model, seed=1, scenes=6, size=384)


def test_calibration_is_reproducible(toy_model, tables):
    assert calibrate(toy_model, seed=1, scenes=6, size=384) == tables
    assert calibrate(toy_model, seed=2, scenes=6, size=384) != tables


def test_tables_rise_and_fall(tables):
    assert len(tables.sigma) == 1  # the toy model is equally sure of everything
    for nodes in (tables.brightness, tables.threshold):
        assert len(nodes) > 2
        assert (np.diff(nodes) > 0).all()
    assert (np.diff(tables.false_alarms) < 0).all()
    assert min(tables.sigma_factor + tables.brightness_factor) > 0
