"""Code that was written for a photutils ``Background2D`` takes ours: the tutorials, as tests."""

import inspect
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.convolution import convolve
from astropy.nddata import NDData
from astropy.utils.exceptions import AstropyDeprecationWarning, AstropyUserWarning

from bgrem import DiffusionBackground2D
from bgrem.background import separate

pytest.importorskip("photutils")

from photutils.aperture import CircularAperture, aperture_photometry
from photutils.background import Background2D
from photutils.datasets import make_100gaussians_image
from photutils.detection import DAOStarFinder, find_peaks
from photutils.segmentation import (
    SourceCatalog,
    SourceFinder,
    deblend_sources,
    detect_sources,
    make_2dgaussian_kernel,
)


@pytest.fixture(scope="module")
def data():
    return make_100gaussians_image()[:200, :250]


@pytest.fixture(scope="module")
def bkg(data, toy_model):
    return DiffusionBackground2D(data, (50, 50), model=toy_model)


def test_the_segmentation_tutorial(data, bkg):
    subtracted = data - bkg.background
    threshold = 1.5 * bkg.background_rms
    convolved = convolve(subtracted, make_2dgaussian_kernel(3.0, size=5))
    segments = detect_sources(convolved, threshold, 10)
    deblended = deblend_sources(convolved, segments, 10, progress_bar=False)
    assert len(deblended.labels) >= len(segments.labels) > 15
    assert SourceFinder(10, progress_bar=False)(convolved, threshold).labels.size > 15
    catalog = SourceCatalog(
        subtracted, deblended, convolved_data=convolved, background=bkg.background
    )
    table = catalog.to_table()
    assert np.isfinite(np.array(table["segment_flux"])).all()
    kron = catalog.kron_photometry((2.5, 1.0))
    assert len(kron[0]) == len(deblended.labels)


def test_the_detection_tutorial(data, bkg):
    finder = DAOStarFinder(threshold=5.0 * bkg.background_rms_median, fwhm=3.0)
    mask = np.zeros(data.shape, bool)
    mask[50:80, 50:80] = True
    sources = finder(data - bkg.background_median, mask=mask)
    assert len(sources) > 5
    peaks = find_peaks(data, bkg.background + 5.0 * bkg.background_rms, box_size=11)
    apertures = CircularAperture(np.transpose((peaks["x_peak"], peaks["y_peak"])), r=4.0)
    fluxes = aperture_photometry(data - bkg.background, apertures, error=bkg.background_rms)
    assert (np.array(fluxes["aperture_sum"]) > 0).mean() > 0.9


def test_the_background_tutorial(data, toy_model):
    coverage = np.zeros(data.shape, bool)
    coverage[:, :40] = True
    bkg = DiffusionBackground2D(data, (50, 50), coverage_mask=coverage, model=toy_model)
    assert (bkg.mask[coverage] & 2 > 0).all()
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    figure, ax = plt.subplots()
    bkg.plot_meshes(ax=ax, outlines=True, marker=".", color="cyan", alpha=0.3, lw=2, ls=":")
    bkg.plot_meshes()
    assert len(ax.collections) == 2 and len(ax.patches) == 20
    plt.close(figure)


def test_the_mesh(data, bkg, toy_model):
    theirs = Background2D(data, 50)
    assert bkg.background_mesh.shape == theirs.background_mesh.shape == (4, 5)
    np.testing.assert_allclose(bkg.background_mesh, theirs.background_mesh, atol=3)
    np.testing.assert_allclose(bkg.background_rms_mesh, theirs.background_rms_mesh, atol=3)
    np.testing.assert_allclose(bkg.n_pixels_mesh, theirs.n_pixels_mesh, rtol=0.1)
    assert np.median(bkg.background_mesh) == pytest.approx(bkg.background_median)
    assert bkg.n_pixels_mesh.shape == (4, 5)
    assert (bkg.n_pixels_mesh <= 2500).all() and bkg.n_pixels_mesh.sum() > 0.5 * data.size
    assert bkg.n_pixels_map.shape == data.shape
    assert bkg.n_pixels_map[0, 249] == bkg.n_pixels_mesh[0, 4]
    in_jansky = DiffusionBackground2D(data * u.Jy, 50, model=toy_model)
    np.testing.assert_array_equal(in_jansky.background_mesh.value, bkg.background_mesh)
    assert in_jansky.background_rms_mesh.unit == u.Jy


def test_every_attribute_and_keyword_of_photutils(data, bkg):
    theirs = Background2D(data, 50)
    names = {name for name in dir(theirs) if not name.startswith("_")}
    assert names <= set(dir(bkg))
    for function in ("__init__", "plot_meshes"):
        ours, needed = (
            list(inspect.signature(getattr(kind, function)).parameters)
            for kind in (DiffusionBackground2D, Background2D)
        )
        assert set(needed) - {"interpolator"} <= set(ours)  # which is deprecated


def test_keywords_without_effect_warn_once(data, bkg, toy_model):
    def with_keywords(**keywords):
        return DiffusionBackground2D(data, 50, model=toy_model, **keywords)

    with pytest.warns(AstropyUserWarning) as caught:
        other = with_keywords(sigma_clip=None, filter_size=5, exclude_percentile=20)
    (warning,) = (str(w.message) for w in caught if "no effect" in str(w.message))
    assert warning.startswith("exclude_percentile, filter_size, sigma_clip have no effect")
    np.testing.assert_array_equal(other.background, bkg.background)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*no effect")
        with_keywords(exclude_percentile=10, filter_size=3, filter_threshold=None)
    with pytest.warns(AstropyDeprecationWarning, match="'bkgrms_estimator' was deprecated"):
        with_keywords(bkgrms_estimator=np.std)
    with pytest.raises(TypeError, match="filtersize"):
        with_keywords(filtersize=3)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i2", "u1"])
def test_a_constant_image(dtype):
    pixels = np.full((40, 50), 7, dtype)
    pixels[3, 4] = 9
    given = np.ma.array(pixels, mask=pixels == 9)
    sky = DiffusionBackground2D(given, 20)
    assert (sky.background == 7).all() and (sky.background_rms == 0).all()
    assert sky.background_mesh.shape == (2, 3) and sky.background_rms_median == 0
    assert sky.background.dtype == (dtype if "f" in dtype else "f4")
    assert (sky.sources == 0).all() and sky.noise[3, 4] == 2
    assert (sky.mask > 0).sum() == 1 and sky.n_pixels_mesh[0, 0] == 399
    assert given.data[3, 4] == 9


def test_no_data_outside_the_coverage(data, toy_model):
    outside = np.zeros(data.shape, bool)
    outside[:, :40] = True
    given = NDData(np.where(outside, 0, data), unit="adu")
    sky = DiffusionBackground2D(given, 50, coverage_mask=outside, fill_value=-1, model=toy_model)
    assert (sky.background[outside] == -1 * u.adu).all()
    assert (sky.background_rms[outside] == -1 * u.adu).all()
    assert (sky.background[~outside] > 0 * u.adu).all()
    whole = (sky.sources + sky.background + sky.noise).value
    np.testing.assert_allclose(whole, given.data, atol=1e-9)


def test_a_changed_background_changes_nothing_else(data, toy_model):
    sky = DiffusionBackground2D(data, 50, model=toy_model)
    before = sky.background
    sky.background[:] = 0
    np.testing.assert_array_equal(sky.background, before)


def test_boxes_smaller_than_a_cell_of_the_sky(data, toy_model):
    sky = DiffusionBackground2D(data, (5, 7), model=toy_model)
    assert sky.background_mesh.shape == (40, 36)
    assert sky.n_pixels_map.shape == data.shape
    np.testing.assert_allclose(sky.background_mesh[0, 0], sky.background[:5, :7].mean())


def test_masks_are_joined(data, toy_model):
    one, two = np.zeros(data.shape, bool), np.zeros(data.shape, np.uint8)
    one[3], two[5] = True, 1
    both = DiffusionBackground2D(data, 50, mask=one, coverage_mask=two, model=toy_model)
    parts = separate(data, mask=one | (two > 0), box=50, model=toy_model)
    np.testing.assert_array_equal(both.mask, parts.mask)
