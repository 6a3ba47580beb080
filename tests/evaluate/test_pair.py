"""The files of a pair: read as any image is, compressed or not."""

import bz2

import numpy as np
import pytest
from astropy.io import fits

from bgrem.evaluate.pair import read_pair

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
