"""Counts maps in the containers that astronomers have them in."""

import numpy as np
import pytest
from astropy import units
from astropy.nddata import InverseVariance, NDData, StdDevUncertainty, VarianceUncertainty
from astropy.wcs import WCS

import bgrem
from bgrem.counts.counts_path import separate_counts
from bgrem.options import Options

pytestmark = pytest.mark.filterwarnings("ignore:a PSF of")


def counts_map(shape=(48, 64), level=0.5, seed=7):
    y, x = np.indices(shape)
    star = 60 * np.exp(-((x - 40) ** 2 + (y - 20) ** 2) / 4) / (4 * np.pi)
    return np.random.default_rng(seed).poisson(level + star)


@pytest.fixture
def sources(counts_model):
    return separate_counts(counts_map(), model=counts_model).sources


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64]
)
def test_arrays_of_any_type_give_the_same(counts_model, sources, dtype):
    data = counts_map().astype(dtype)
    found = bgrem.remove_background(data, model=counts_model)
    assert np.array_equal(found, sources) and found.dtype == np.float32
    assert np.array_equal(data, counts_map())


@pytest.mark.parametrize("unit", ["ct", "photon"])
def test_nddata_keeps_unit_wcs_meta_and_mask(counts_model, unit):
    wcs = WCS(naxis=2)
    mask = np.zeros((48, 64), bool)
    mask[5:8, 5:8] = True
    data = NDData(counts_map(), unit=unit, wcs=wcs, meta={"OBJECT": "Crab"}, mask=mask)
    found = bgrem.remove_background(data, model=counts_model)
    assert (
        found.unit == units.Unit(unit)
        and found.meta == {"OBJECT": "Crab"}
        and found.wcs is not None
    )
    assert np.array_equal(found.mask, mask) and not found.data[mask].any()
    assert isinstance(found.uncertainty, StdDevUncertainty)
    options = Options(maps=("uncertainty",))
    parts = separate_counts(counts_map(), mask=mask, model=counts_model, options=options)
    assert np.array_equal(found.uncertainty.array, parts.uncertainty)


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_uncertainties_are_of_the_same_type(counts_model, kind):
    data = NDData(counts_map(), unit="ct", uncertainty=kind(np.ones((48, 64))))
    found = bgrem.remove_background(data, model=counts_model).uncertainty
    plain = bgrem.remove_background(NDData(counts_map(), unit="ct"), model=counts_model).uncertainty
    power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[kind]
    assert type(found) is kind
    assert np.allclose(found.array, plain.array.astype(float) ** power, rtol=1e-5)


def test_quantities_and_masked_arrays(counts_model, sources):
    found = bgrem.remove_background(counts_map() * units.ct, model=counts_model)
    assert found.unit == units.ct and np.array_equal(found.value, sources)
    masked = np.ma.array(counts_map(), mask=False)
    masked[10:14, 10:14] = np.ma.masked
    found = bgrem.remove_background(masked, model=counts_model)
    assert np.array_equal(found.mask, masked.mask) and not found.data[10:14, 10:14].any()


def test_a_cube_in_nddata(counts_model):
    cube = np.stack([counts_map(seed=k) for k in (1, 2, 3)])
    found = bgrem.remove_background(NDData(cube, unit="ct"), model=counts_model)
    bands = separate_counts(cube, model=counts_model)
    assert found.data.shape == cube.shape == found.uncertainty.array.shape
    assert all(np.array_equal(a, b.sources) for a, b in zip(found.data, bands, strict=True))


@pytest.mark.parametrize("bands", [None, 2])
def test_maps_of_gammapy_itself(counts_model, bands):
    maps = pytest.importorskip("gammapy.maps")
    data = counts_map() if bands is None else np.stack([counts_map(seed=k) for k in range(bands)])
    axes = (
        None if bands is None else [maps.MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=bands)]
    )
    geom = maps.WcsGeom.create(
        skydir=(0, 0), npix=(64, 48), binsz=0.05, frame="galactic", axes=axes
    )
    counts = maps.WcsNDMap(geom, data.astype(np.float32), unit="")
    found = bgrem.remove_background(counts, model=counts_model)
    assert type(found) is maps.WcsNDMap and found.geom == geom and found.unit == counts.unit
    assert found.data.shape == data.shape and (found.data >= 0).all()
    assert np.array_equal(counts.data, data)


def test_exposure_template_and_psf_go_through(counts_model, sources):
    exposure = np.ones((48, 64))
    exposure[:, 50:] = 0
    given = {"exposure": exposure, "template": exposure + 1, "psf": 2.5}
    found = bgrem.remove_background(counts_map(), model=counts_model, **given)
    parts = bgrem.separate(counts_map(), model=counts_model, **given)
    assert np.array_equal(found, parts.sources) and not found[:, 50:].any()
    assert not np.array_equal(found, sources)


def test_the_interval_is_of_a_gamma_distribution(counts_model):
    stats = pytest.importorskip("scipy.stats")
    parts = bgrem.separate(counts_map(), model=counts_model, maps=("uncertainty",))
    low, high = parts.interval(0.68)
    assert (low >= 0).all() and (low < high).all()
    at = np.unravel_index(np.argmax(parts.sources), parts.sources.shape)
    mean, variance = float(parts.sources[at]), float(parts.uncertainty[at]) ** 2
    law = stats.gamma(mean**2 / variance, scale=variance / mean)
    assert law.cdf(high[at]) - law.cdf(low[at]) == pytest.approx(0.68, abs=1e-6)
    with pytest.raises(ValueError, match="no uncertainty"):
        bgrem.separate(counts_map(), model=counts_model, maps=()).interval()
