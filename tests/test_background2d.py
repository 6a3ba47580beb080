"""Code that was written for a photutils ``Background2D`` takes ours: the tutorials, as tests."""

import inspect

import numpy as np
import pytest
from astropy import units as u
from astropy.convolution import convolve

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
    bkg.plot_meshes(ax=ax, outlines=True, marker=".", color="cyan", alpha=0.3)
    bkg.plot_meshes()
    assert len(ax.collections) == 4
    plt.close(figure)


def test_the_mesh(data, bkg, toy_model):
    theirs = Background2D(data, 50)
    assert bkg.background_mesh.shape == theirs.background_mesh.shape == (4, 5)
    np.testing.assert_allclose(bkg.background_mesh, theirs.background_mesh, atol=3)
    np.testing.assert_allclose(bkg.background_rms_mesh, theirs.background_rms_mesh, atol=3)
    assert np.median(bkg.background_mesh) == pytest.approx(bkg.background_median)
    assert bkg.n_pixels_mesh.shape == (4, 5)
    assert (bkg.n_pixels_mesh <= 2500).all() and bkg.n_pixels_mesh.sum() > 0.5 * data.size
    assert bkg.n_pixels_map.shape == data.shape
    assert bkg.n_pixels_map[0, 249] == bkg.n_pixels_mesh[0, 4]
    in_jansky = DiffusionBackground2D(data * u.Jy, 50, model=toy_model)
    np.testing.assert_array_equal(in_jansky.background_mesh.value, bkg.background_mesh)
    assert in_jansky.background_rms_mesh.unit == u.Jy


def test_every_attribute_that_is_not_deprecated():
    theirs = {name for name in vars(Background2D) if not name.startswith("_")}
    deprecated = {"npixels_map", "npixels_mesh"}
    assert theirs - deprecated <= set(dir(DiffusionBackground2D))
    ours = inspect.signature(DiffusionBackground2D.plot_meshes).parameters
    assert set(inspect.signature(Background2D.plot_meshes).parameters) == set(ours)


def test_options_without_a_counterpart_are_refused(data, toy_model):
    with pytest.raises(TypeError, match="filter_size"):
        DiffusionBackground2D(data, 50, filter_size=(3, 3), model=toy_model)


def test_masks_are_joined(data, toy_model):
    one, two = np.zeros(data.shape, bool), np.zeros(data.shape, np.uint8)
    one[3], two[5] = True, 1
    both = DiffusionBackground2D(data, 50, mask=one, coverage_mask=two, model=toy_model)
    parts = separate(data, mask=one | (two > 0), box=50, model=toy_model)
    np.testing.assert_array_equal(both.mask, parts.mask)
