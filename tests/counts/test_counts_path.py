"""A counts map and its parts: what holds for every map, whatever the weights of the network."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bgrem
from bgrem.counts.bands import separate_bands
from bgrem.counts.counts_input import area_fwhm, counts_input, fitted_psf, gaussian_image
from bgrem.counts.counts_path import separate_counts
from bgrem.counts.rebinning import rebinned_psf, spread_smoothly, summed
from bgrem.masks.flags import MASKED, NO_DATA, NOT_FINITE
from bgrem.options import Options

MAPS = Options(maps=("uncertainty", "significance"))


def poisson_map(shape=(70, 90), level=0.5, seed=1, flux=60.0):
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    star = np.exp(-((x - 40) ** 2 + (y - 30) ** 2) / 5) / (5 * np.pi)
    return rng.poisson(level + flux * star)


def check_parts(data, parts):
    good = np.isfinite(data)
    total = parts.sources + parts.background + parts.noise
    assert np.abs(total - data)[good].max() < 1e-4
    assert (parts.sources[good] >= 0).all() and (parts.background[good] >= 0).all()
    assert np.isfinite(parts.sources[good]).all() and np.isfinite(parts.background).all()


@settings(max_examples=12, deadline=None)
@given(
    shape=st.tuples(st.integers(16, 75), st.integers(16, 75)),
    level=st.sampled_from([0.01, 0.3, 20.0, 900.0]),
    dtype=st.sampled_from([np.uint8, np.int16, np.int64, np.float32, np.float64, np.uint16]),
    seed=st.integers(0, 99),
)
def test_parts_add_up(counts_model, shape, level, dtype, seed):
    level = min(level, 100.0) if dtype is np.uint8 else level
    data = np.random.default_rng(seed).poisson(level, shape).astype(dtype)
    parts = separate_counts(data, model=counts_model, options=MAPS)
    check_parts(data, parts)
    expected = float(parts.sources.sum(dtype=float) + parts.background.sum(dtype=float))
    assert expected == pytest.approx(float(data.sum()), rel=1e-4, abs=1e-3)
    assert (parts.uncertainty >= 0).all()


def test_tiles_leave_no_step(counts_file, counts_model):
    data = poisson_map((300, 260))
    whole = separate_counts(data, model=counts_model)
    large = type(counts_model)(counts_file)
    large.tile = 512
    one = separate_counts(data, model=large)
    difference = np.abs(whole.sources - one.sources) / np.sqrt(one.background + one.sources)
    assert np.median(difference) < 0.02


def test_nan_stays_and_spreads_nowhere(counts_model):
    data = poisson_map().astype(np.float32)
    data[20:23, 50] = np.nan
    parts = separate_counts(data, model=counts_model, options=MAPS)
    assert (np.isnan(parts.sources) == np.isnan(data)).all()
    assert (parts.mask[np.isnan(data)] == NOT_FINITE).all()
    check_parts(data, parts)


def test_masked_pixels_have_no_sources(counts_model):
    data = poisson_map()
    data[10, 10] = 5000
    mask = np.zeros(data.shape, bool)
    mask[8:13, 8:13] = True
    parts = separate_counts(data, mask=mask, model=counts_model)
    assert not parts.sources[mask].any() and (parts.mask[mask] == MASKED).all()
    assert parts.noise[10, 10] > 4900
    near = parts.background[14:20, 14:20]
    assert parts.background[10, 10] == pytest.approx(near.mean(), rel=0.5)
    without = separate_counts(np.where(mask, 0, data), mask=mask, model=counts_model)
    assert np.array_equal(parts.sources, without.sources)


def test_nothing_where_nothing_was_seen(counts_model):
    data = poisson_map()
    exposure = np.ones(data.shape)
    exposure[:, 60:] = 0
    exposure[3, 3] = np.nan
    data[:, 60:] = 0
    parts = separate_counts(data, exposure=exposure, model=counts_model)
    assert not parts.sources[:, 60:].any() and not parts.background[:, 60:].any()
    assert (parts.mask[:, 60:] == NO_DATA).all() and parts.mask[3, 3] == NO_DATA


def test_units_of_exposure_and_template_do_not_matter(counts_model):
    data = poisson_map()
    exposure = 1 + np.indices(data.shape)[1] / 50.0
    one = separate_counts(data, exposure=exposure, template=exposure**2, model=counts_model)
    other = separate_counts(
        data, exposure=3e11 * exposure, template=2e-9 * exposure**2, model=counts_model
    )
    assert np.allclose(one.sources, other.sources, rtol=1e-3, atol=1e-5)


def test_a_cube_is_one_field(counts_model):
    cube = np.stack([poisson_map(seed=s) for s in (1, 2, 3)])
    bands = separate_counts(
        cube, model=counts_model, options=MAPS, psf=np.stack([gaussian_image(w) for w in (2, 3, 4)])
    )
    assert len(bands) == 3
    for data, parts in zip(cube, bands, strict=True):
        check_parts(data, parts)
        assert np.array_equal(parts.significance, bands[0].significance)
    assert [round(one.provenance.fwhm, 1) for one in bands] == [2.0, 3.0, 4.0]
    alone = separate_counts(cube[1], model=counts_model, options=MAPS)
    assert not np.array_equal(alone.significance, bands[1].significance)


def test_the_same_map_gives_the_same_parts(counts_model):
    data = poisson_map()
    for steps in (1, 3):
        options = replace(MAPS, steps=steps)
        one, other = (separate_counts(data, model=counts_model, options=options) for _ in range(2))
        assert np.array_equal(one.sources, other.sources)
        check_parts(data, one)


def test_steps_add_whole_photons(counts_model):
    """Each step sees a map of whole numbers, of which the observed one is a thinned copy."""
    seen = []

    class Watched:
        tile, overlap, multiple = 512, 64, 32

        def __call__(self, planes, kernel, frame):
            seen.append((planes[0, 0].copy(), float(frame[0, 5])))
            return counts_model(planes, kernel, frame)

    data = poisson_map((64, 64), level=3.0)[None]
    separate_bands(data, model=Watched(), steps=4)
    assert len(seen) == 4 and [rate for _, rate in seen] == sorted(
        (rate for _, rate in seen), reverse=True
    )
    for photons, rate in seen:
        assert (photons == np.rint(photons)).all() and (photons >= data[0]).all()
        assert photons.sum() == pytest.approx(data.sum() / rate, rel=0.05)


def test_wide_psfs_are_summed(counts_model):
    data = poisson_map((200, 160), level=0.2)
    parts = separate_counts(data, psf=20.0, model=counts_model, options=MAPS)
    check_parts(data, parts)
    assert parts.provenance.fwhm == pytest.approx(20, rel=0.01)


def test_summing_and_spreading_keep_the_light():
    rng = np.random.default_rng(4)
    image = rng.poisson(1.0, (1, 37, 50)).astype(float)
    coarse = summed(image, 4)
    assert coarse.shape == (1, 10, 13) and coarse.sum() == image.sum()
    fine = spread_smoothly(coarse, 4, (37, 50))
    assert np.allclose(summed(fine, 4), coarse) and (fine >= 0).all()
    psf = rebinned_psf(gaussian_image(12.0, 61), 4)
    assert psf.sum() == pytest.approx(1) and psf.shape[0] % 2 == 1
    # Two boxes of 4 pixels widen it a little.
    assert area_fwhm(psf) == pytest.approx(12 / 4, rel=0.12)
    assert fitted_psf(psf).shape == (31, 31)


def test_the_network_is_given_the_map():
    data = poisson_map()[None]
    seen = np.ones(data.shape, np.float32)
    inputs = counts_input(
        data, seen, 7 * seen, gaussian_image(3.0)[None], given=(True, False, False)
    )
    assert inputs.planes[0, 1].sum() == pytest.approx(data.sum(), rel=1e-5)
    assert inputs.frame[0, 1] == pytest.approx(np.log2(3), abs=0.01)


def test_what_is_no_counts_is_refused(counts_model):
    for bad, words in ((-1.0, "negative"), (0.5, "whole numbers")):
        data = poisson_map().astype(float)
        data[3, 3] = bad
        with pytest.raises(ValueError, match=words):
            separate_counts(data, model=counts_model)
    with pytest.raises(ValueError, match="no pixel was seen"):
        separate_counts(poisson_map(), mask=np.ones((70, 90)), model=counts_model)
    with pytest.raises(ValueError, match="odd square"):
        separate_counts(poisson_map(), psf=np.ones((4, 4)), model=counts_model)
    with pytest.raises(ValueError, match="exposure has the shape"):
        separate_counts(poisson_map(), exposure=np.ones((3, 3)), model=counts_model)


def test_an_empty_map_is_reported(counts_model):
    parts = separate_counts(np.zeros((40, 40), int), model=counts_model, options=MAPS)
    assert not parts.sources.any() and "the map has no counts" in parts.provenance.warnings


def test_intervals_hold_the_estimate(counts_model):
    parts = separate_counts(poisson_map(), model=counts_model, options=MAPS)
    low, high = parts.interval(0.68)
    assert (low >= 0).all() and (low <= high).all()
    wide = parts.interval(0.95)
    assert (wide[0] <= low).all() and (wide[1] >= high).all()


def test_thresholds_of_the_card(counts_model):
    assert counts_model.threshold_for(1.0) == 4.0
    assert counts_model.threshold_for(1.0, exposure=False) == 6.0
    known, unknown = (
        separate_counts(poisson_map(), psf=3.0, exposure=e, model=counts_model).provenance.signif_1
        for e in (np.ones((70, 90)), None)
    )
    assert known < unknown
    assert 4.0 < counts_model.threshold_for(0.3) < 5.0
    parts = separate_counts(poisson_map(), psf=3.0, model=counts_model, options=MAPS)
    assert parts.provenance.signif_1 > parts.provenance.signif_10


def test_separate_takes_a_model_of_counts(counts_model, counts_file):
    data = poisson_map()
    parts = bgrem.separate(data, model=counts_model, psf=3.0)
    assert parts.provenance.model == "toy"
    assert np.array_equal(
        parts.sources, bgrem.separate(data, model=str(counts_file), psf=3.0).sources
    )
    with pytest.raises(ValueError, match="weights"):
        bgrem.separate(data, model=counts_model, weight=np.ones(data.shape))
    with pytest.raises(ValueError, match="psf is for maps of counts"):
        bgrem.separate(data + 0.5, model="optical", psf=3.0)


class GammapyLike:
    """What is used of a `gammapy.maps.WcsNDMap`."""

    def __init__(self, data, geom="geometry"):
        self.data, self.geom = data, geom

    def copy(self, data):
        return GammapyLike(data, self.geom)


def test_maps_of_gammapy_come_back(counts_model):
    cube = np.stack([poisson_map(seed=s) for s in (1, 2)])
    for data in (cube[0], cube):
        with pytest.warns(UserWarning, match="assumed"):
            found = bgrem.remove_background(GammapyLike(data), model=counts_model)
        assert isinstance(found, GammapyLike) and found.geom == "geometry"
        assert found.data.shape == data.shape


def test_nddata_keeps_its_unit(counts_model):
    from astropy.nddata import NDData

    data = NDData(poisson_map(), unit="photon")
    with pytest.warns(UserWarning, match="assumed"):
        found = bgrem.remove_background(data, model=counts_model)
    assert found.unit == "photon" and (found.data >= 0).all() and found.uncertainty is not None


def test_the_choice_is_reported(counts_file, monkeypatch, tmp_path):
    (tmp_path / "counts.onnx").write_bytes(counts_file.read_bytes())
    monkeypatch.setenv("BGREM_MODELS", str(tmp_path))
    parts = bgrem.separate(poisson_map(), psf=3.0)
    assert parts.provenance.model == "toy"
    assert any("the model counts is used" in line for line in parts.provenance.warnings)
    given = bgrem.separate(poisson_map(), psf=3.0, model="counts")
    assert not given.provenance.warnings


def test_a_map_of_counts_has_no_catalogue(counts_model):
    parts = separate_counts(poisson_map(), psf=3.0, model=counts_model)
    with pytest.raises(ValueError, match="no catalogue of a map of counts"):
        parts.catalog(threshold=3.0)
