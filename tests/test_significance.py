"""The significance of sources, from the chances of pixels."""

import numpy as np
import pytest

from bgrem import significance as module
from bgrem.significance import CENTRE, gather, raise_bright


def star(height, at, shape=(700, 60), sigma=1.5):
    rows, columns = np.indices(shape)
    r2 = (rows - at[0]) ** 2 + (columns - at[1]) ** 2
    return (height * np.exp(-0.5 * r2 / sigma**2)).astype(np.float32)


def raised(sources, artefact=None, fwhm=1.5 * 2.3548, rms=1.0):
    significance = np.full(sources.shape, -12.0, np.float32)
    hit = np.zeros(sources.shape, bool) if artefact is None else artefact

    def rms_rows(start, stop):
        return np.full((min(stop, len(sources)) - start, sources.shape[1]), rms)

    raise_bright(significance, sources, rms_rows, hit, fwhm)
    return significance


@pytest.mark.parametrize("row", [30, 505, 512, 690])
@pytest.mark.parametrize("fwhm", [1.5 * 2.3548, np.nan])
def test_a_bright_star_is_certain_at_its_centre(row, fwhm):
    significance = raised(star(100.0, (row, 25)), fwhm=fwhm)
    assert np.unravel_index(significance.argmax(), significance.shape) == (row, 25)
    assert significance.max() > 5
    assert (significance[abs(np.arange(700) - row) > 12] == -12).all()


def test_it_is_what_the_signal_to_noise_ratio_says():
    # A matched Gaussian keeps S/N = height * sqrt(pi) * sigma of a Gaussian star in white noise.
    snr = 200.0
    height = snr / (np.sqrt(np.pi) * 1.5)
    assert raised(star(height, (300, 30))).max() == pytest.approx((snr - 100) / 10, rel=0.02)
    assert raised(7 * star(height, (300, 30)), rms=7.0).max() == pytest.approx(10, rel=0.02)


def test_faint_sources_are_left_to_the_network():
    assert (raised(star(10.0, (300, 30))) == -12).all()


def test_an_artefact_is_not_raised():
    sources = star(1000.0, (300, 30), sigma=0.4)
    assert (raised(sources, artefact=sources > 1) == -12).all()


def logits(chance):
    return np.log(chance / (1 - chance)).astype(np.float32)


def gathered(chance, fwhm=4.0):
    plane = logits(chance)
    gather(plane, fwhm)
    return plane


@pytest.mark.parametrize("fwhm", [8.0, 20.0])
def test_a_certain_centre_has_a_chance_of_one(fwhm):
    rows, columns = np.indices((101, 101)) - 50
    chance = np.where(np.hypot(rows, columns) <= CENTRE * fwhm, 1 - 1e-6, 1e-9)
    assert gathered(chance, fwhm).max() == pytest.approx(0, abs=0.15)


def test_small_chances_add_up():
    chance = np.full((60, 60), 1e-9)
    chance[30, 30] = 1e-3
    alone = gathered(chance).max()
    chance[29:32, 29:32] = 1e-3
    assert gathered(chance).max() == pytest.approx(alone + np.log(9), abs=0.3)
    sharp = np.full((60, 60), 1e-9)
    sharp[30, 30] = 2e-3
    assert gathered(sharp).max() < gathered(chance).max()


@pytest.mark.parametrize("height", [16, 37, 64])
def test_strips_leave_no_trace(height, monkeypatch):
    chance = np.random.default_rng(1).uniform(1e-6, 0.5, (150, 40))
    whole = gathered(chance)
    monkeypatch.setattr(module, "HEIGHT", height)
    np.testing.assert_allclose(gathered(chance), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_is_no_chance_and_does_not_spread(dtype):
    plane = np.full((40, 40), -3.0, dtype)
    plane[20, 20] = np.nan
    gather(plane, np.nan)
    assert np.isfinite(plane).all() and plane.dtype == dtype
    assert plane[20, 20] < plane[5, 5]
