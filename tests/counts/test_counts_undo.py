"""The way back from the parts of a counts map to its integers, bit for bit."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bgrem
from bgrem.processing.files import process_file

SAVED = ("background", "noise")
TYPES = {
    "u1": np.uint8,
    "i2": np.int16,
    "u2": np.uint16,
    "i4": np.int32,
    "u4": np.uint32,
    "i8": np.int64,
    "f4": np.float32,
    "f8": np.float64,
}


def there_and_back(folder, data, model, **options):
    """The bytes of a file before, and after it was separated and undone."""
    path = folder / "map.fits"
    fits.PrimaryHDU(data).writeto(path, overwrite=True)
    result = process_file(path, model=str(model), save=SAVED, overwrite=True, **options)
    back = bgrem.undo(result.output, folder / "back.fits", overwrite=True)
    assert back is None or str(back).endswith("back.fits")
    return path.read_bytes(), (folder / "back.fits").read_bytes()


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(sorted(TYPES)),
    shape=st.tuples(st.integers(16, 50), st.integers(16, 50)),
    level=st.sampled_from([0.02, 2.0, 200.0]),
    bands=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 99),
)
def test_every_type_comes_back(counts_file, tmp_path, name, shape, level, bands, seed):
    shape = (bands, *shape) if bands else shape
    data = np.random.default_rng(seed).poisson(level, shape)
    data = np.minimum(data, 255).astype(TYPES[name])
    before, after = there_and_back(tmp_path, data, counts_file)
    assert after == before


def test_counts_beyond_single_precision(counts_file, tmp_path):
    data = np.random.default_rng(1).poisson(5.0, (40, 40)).astype(np.int64)
    data[10, 10], data[20, 30] = 2**24 + 1, 123_456_789
    before, after = there_and_back(tmp_path, data, counts_file)
    assert after == before


def test_gaps_and_masks(counts_file, tmp_path):
    data = np.random.default_rng(1).poisson(5.0, (40, 40)).astype(np.float32)
    data[:, 30:] = np.nan
    mask = np.zeros((40, 40), np.uint8)
    mask[5:9, 5:9] = 1
    exposure = np.ones((40, 40), np.float32)
    exposure[30:] = 0
    options = {"mask": mask, "exposure": exposure, "psf": 3.0, "steps": 2}
    before, after = there_and_back(tmp_path, data, counts_file, **options)
    assert after == before


@pytest.mark.parametrize("level", [0.0, 3.0])
def test_planes_add_up_in_the_file(counts_file, tmp_path, level):
    path = tmp_path / "map.fits"
    data = np.random.default_rng(4).poisson(level, (3, 30, 30)).astype(np.int32)
    data[1] = 0
    fits.PrimaryHDU(data).writeto(path)
    result = process_file(path, model=str(counts_file), save=SAVED)
    with fits.open(result.output) as hdus:
        parts = [hdus[0].data, hdus["BACKGROUND"].data, hdus["NOISE"].data]
    assert np.array_equal(np.sum(parts, axis=0, dtype=np.float64).round(3), data)
    assert not parts[0][1].any() and (parts[0] >= 0).all() and (parts[1] >= 0).all()


def test_zeros_and_ones_are_counts_where_a_psf_is_given(counts_file, tmp_path, monkeypatch):
    """Without it, or a unit, they may be a mask."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "counts.onnx").write_bytes(counts_file.read_bytes())
    monkeypatch.setenv("BGREM_MODELS", str(folder))
    data = (np.random.default_rng(3).random((64, 64)) < 0.03).astype(np.int16)
    fits.PrimaryHDU(data).writeto(tmp_path / "map.fits")
    found = [
        process_file(tmp_path / "map.fits", overwrite=True, **given) for given in ({}, {"psf": 2.0})
    ]
    assert [one.model for one in found] == ["optical", "toy"]
