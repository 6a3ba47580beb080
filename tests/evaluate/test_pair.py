"""Pairs: their files, read as any image is, and the truth that the deep stack gives."""

import bz2

import numpy as np
import pytest
from astropy.io import fits
from skies import FWHM, made_pair

from bgrem.detection.psf import gaussian_psf
from bgrem.evaluate.pair import read_pair, truth_of_pair

SHAPE = (40, 50)


@pytest.fixture
def planes():
    rng = np.random.default_rng(2)
    return rng.integers(200, 400, SHAPE).astype(np.int16), rng.normal(size=SHAPE).astype("f4")


@pytest.fixture
def deep(tmp_path, planes):
    path = tmp_path / "deep.fits"
    images = [fits.ImageHDU(planes[1], name="SCI"), fits.ImageHDU(planes[1] + 9, name="SE")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    return path


def test_compressed_and_scaled_integers(tmp_path, planes, deep):
    stored, stack = planes
    stored[3, 4] = -999
    header = fits.Header({"BSCALE": 0.5, "BZERO": 10.0, "BLANK": -999})
    mask = np.zeros(SHAPE, np.uint8)
    mask[7, 8] = 1
    tiles = fits.CompImageHDU(stored, header, compression_type="RICE_1")
    tiles.header.update(header)
    units = [fits.PrimaryHDU(), tiles, fits.CompImageHDU(mask, name="MASK")]
    fits.HDUList(units).writeto(tmp_path / "single.fits.fz")
    (tmp_path / "deep.fits.bz2").write_bytes(bz2.compress(deep.read_bytes()))
    pair = read_pair(tmp_path / "single.fits.fz", tmp_path / "deep.fits.bz2")
    assert sorted(zip(*np.nonzero(pair.mask), strict=True)) == [(3, 4), (7, 8)]
    good = ~pair.mask
    np.testing.assert_array_equal(pair.single[good], (10 + 0.5 * stored)[good].astype("f4"))
    np.testing.assert_array_equal(pair.deep, stack)
    np.testing.assert_array_equal(pair.error, stack + 9)


def test_files_that_make_no_pair(tmp_path, planes, deep):
    single = tmp_path / "single.fits"
    fits.PrimaryHDU(planes[0]).writeto(single)
    assert not read_pair(single, deep).mask.any()
    with pytest.raises(ValueError, match="no HDU named SCI"):
        read_pair(single, single)
    with pytest.raises(ValueError, match="none.fits: no such file"):
        read_pair(tmp_path / "none.fits", deep)
    fits.PrimaryHDU(planes[0][1:]).writeto(single, overwrite=True)
    with pytest.raises(ValueError, match="not two images of one shape"):
        read_pair(single, deep)


def test_truth_of_a_pair():
    pair, x, y, snr = made_pair(shift=0.4)
    seen = truth_of_pair(pair)
    truth = seen.truth
    assert seen.offset == pytest.approx((0.4, 0.0), abs=0.1)
    # Every listed source is one, and all clear ones are listed.
    listed = np.flatnonzero(truth.counted)
    distance = np.hypot(truth.x[listed][:, None] - x, truth.y[listed][:, None] - y)
    assert (distance.min(axis=1) < 1.5).all()
    lonely = np.sort(np.hypot(x[:, None] - x, y[:, None] - y), axis=1)[:, 1] > 8
    usable = truth.usable[np.rint(y).astype(int), np.rint(x).astype(int)]
    clear = lonely & usable & (snr > 3)
    found = np.hypot(truth.x[listed][:, None] - x[clear], truth.y[listed][:, None] - y[clear])
    assert (found.min(axis=0) < 1.5).mean() > 0.98
    ratio = truth.snr[listed][found.argmin(axis=0)] / snr[clear]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.07)
    # The hot pixel that both have is neither true nor false; nor is what is masked.
    assert not truth.usable[200, 200] and not truth.usable[52, 70] and not truth.usable[9, 2]
    assert (np.abs(seen.ghosts - 200).max(axis=1) < 1).any()
    assert truth.blank.mean() > 0.6


def test_noise_of_a_crowded_exposure_is_measured():
    pair, x, y, snr = made_pair(crowding=8.0)
    truth = truth_of_pair(pair, psf=gaussian_psf(FWHM)).truth
    lonely = np.sort(np.hypot(x[:, None] - x, y[:, None] - y), axis=1)[:, 1] > 7
    distance = np.hypot(truth.x[:, None] - x, truth.y[:, None] - y)
    near = distance.argmin(axis=1)
    same = (distance.min(axis=1) < 1) & lonely[near] & (snr[near] > 10)
    assert np.median(truth.snr[same] / snr[near][same]) == pytest.approx(1.0, abs=0.15)
