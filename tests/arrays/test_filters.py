"""The filters of the path, against SciPy's and against their definition."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bgrem.arrays import filters
from bgrem.report.census import _near
from bgrem.sky.objects import _in_square

ndimage = pytest.importorskip("scipy.ndimage")
ROOT = Path(__file__).resolve().parents[2]
SHAPES = [(1, 1), (1, 7), (2, 2), (5, 3), (40, 61)]
EIGHT = np.ones((3, 3), bool)


@pytest.fixture(params=SHAPES, ids=str)
def values(request):
    return np.random.default_rng(1).normal(size=request.param).astype(np.float32)


@pytest.mark.parametrize("size", [3, 5, 9])
def test_extremes_and_medians(values, size):
    for ours, theirs in (
        (filters.maximum_filter, ndimage.maximum_filter),
        (filters.minimum_filter, ndimage.minimum_filter),
        (filters.median_filter, ndimage.median_filter),
    ):
        np.testing.assert_array_equal(ours(values, size), theirs(values, size, mode="nearest"))


def test_widening(values):
    wider = filters.maximum_filter(values > 0.5, 3)
    np.testing.assert_array_equal(wider, ndimage.binary_dilation(values > 0.5, EIGHT))


@pytest.mark.parametrize("sigma", [0.5, 1.3, 4.0])
@pytest.mark.parametrize(("outside", "mode"), [("zero", "constant"), ("mirror", "reflect")])
def test_gaussian(values, sigma, outside, mode):
    ours = filters.gaussian_filter(values, sigma, outside=outside)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, ndimage.gaussian_filter(values, sigma, mode=mode), atol=2e-6)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.6, 0.9])
def test_regions(part):
    where = np.random.default_rng(2).random((60, 83)) < part
    labels, count = filters.label(where)
    expected, number = ndimage.label(where)
    assert count == number
    np.testing.assert_array_equal(labels, expected)


def test_a_region_that_winds():
    where = np.zeros((41, 40), bool)
    where[::2] = True
    where[1::4, -1] = where[3::4, 0] = True
    assert filters.label(where)[1] == 1
    assert filters.label(~where)[1] == 20


def test_nothing_to_number():
    labels, count = filters.label(np.zeros((3, 4), bool))
    assert count == 0 and not labels.any()


def test_the_nearest_good_cell(values):
    good = values > 0.8
    good[0, 0] = True
    y, x = np.indices(good.shape)
    row, column = filters.nearest_good(good)
    assert good[row, column].all()
    distance = ndimage.distance_transform_edt(~good)
    np.testing.assert_allclose(np.hypot(y - row, x - column), distance)


def test_squares_of_blocks(values):
    flat = values > -0.3
    corners = ndimage.minimum_filter(flat, 2, mode="nearest")
    squares = ndimage.maximum_filter(corners, 2, origin=-1, mode="nearest")
    np.testing.assert_array_equal(_in_square(flat), squares)


@pytest.mark.parametrize(("n", "m", "radius"), [(1, 1, 3.0), (400, 90, 12.5), (90, 3000, 2.0)])
def test_places_with_another_nearby(n, m, radius):
    rng = np.random.default_rng(3)
    places, others = rng.uniform(-5, 300, (n, 2)), rng.uniform(-20, 310, (m, 2))
    apart = places[:, None] - others[None]
    expected = (np.hypot(apart[..., 0], apart[..., 1]) < radius).any(axis=1)
    np.testing.assert_array_equal(_near(places, others, radius), expected)
    assert not _near(places, others[:0], radius).any()


def test_the_command_needs_no_scipy(tmp_path, toy_model_path):
    pytest.importorskip("jinja2")
    sample = ROOT / "examples" / "meerlicht_sample.fits.fz"
    code = (
        "import sys; sys.modules['scipy'] = None; from bgrem.cli.bgrem import main;"
        f"sys.exit(main(['-f', {str(sample)!r}, '--output-dir', {str(tmp_path)!r}, '--quiet', "
        f"'--model', {str(toy_model_path)!r}, '--report', '--save', "
        "'background,noise,rms,mask,uncertainty,significance']))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert (tmp_path / "BGRem_meerlicht_sample.fits.fz.html").exists()
