"""Exposure, template and PSF that a user gives: read, checked, brought to the pixels and bands of the map."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from bgrem.counts.counts_input import area_fwhm, gaussian_image
from bgrem.counts.counts_maps import counts_maps
from bgrem.counts.tabulated_psf import band_energies, pixel_scale, table_of_psf
from bgrem.io.reading import FitsError, read_image

DATA = Path(os.environ.get("BGREM_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
SCALE = 0.1  # degrees


def sky_hdu(values, *, scale=SCALE, shift=0.0, kind=fits.ImageHDU, name=None):
    """An image in Galactic coordinates whose middle, moved by some pixels, is the Galactic centre."""
    hdu = kind(np.asarray(values))
    ny, nx = values.shape[-2:]
    for axis, ctype, side, step in ((1, "GLON-CAR", nx, -scale), (2, "GLAT-CAR", ny, scale)):
        hdu.header[f"CTYPE{axis}"], hdu.header[f"CUNIT{axis}"] = ctype, "deg"
        hdu.header[f"CRVAL{axis}"], hdu.header[f"CDELT{axis}"] = 0.0, step
        hdu.header[f"CRPIX{axis}"] = (side + 1) / 2 + (shift if axis == 2 else 0.0)
    if name:
        hdu.name = name
    return hdu


def energy_table(low, high, name="EBOUNDS"):
    columns = [
        fits.Column(n, "D", unit="MeV", array=e) for n, e in (("E_MIN", low), ("E_MAX", high))
    ]
    if name != "EBOUNDS":
        columns.append(fits.Column("ENERGY", "D", unit="MeV", array=np.sqrt(low * high)))
    return fits.BinTableHDU.from_columns(columns, name=name)


@pytest.fixture
def image_of(tmp_path):
    def make(values, *more, **options):
        path = tmp_path / "counts.fits"
        first = sky_hdu(values, kind=fits.PrimaryHDU, **options)
        fits.HDUList([first, *more]).writeto(path, overwrite=True)
        return read_image(path)

    return make


@pytest.fixture
def written(tmp_path):
    def write(name, *hdus):
        path = tmp_path / name
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
        return str(path)

    return write


def latitude(shape, shift=0.0):
    """Grows by one from row to row; 0 in the middle of the map."""
    return np.indices(shape, np.float32)[0] - (shape[0] - 1) / 2 - shift + 100


def test_a_map_on_the_same_pixels_is_taken_as_it_is(image_of, written):
    image = image_of(np.ones((40, 50), np.int32))
    given = latitude((40, 50))
    found = counts_maps(image, exposure=written("e.fits", sky_hdu(given)) + "[1]")
    assert np.array_equal(found["exposure"][0], given) and not found["notes"]


def test_the_same_shape_on_other_pixels_is_interpolated(image_of, written):
    image = image_of(np.ones((40, 50), np.int32))
    coarse = sky_hdu(latitude((40, 50)), scale=1.25 * SCALE)
    found = counts_maps(image, template=written("t.fits", coarse) + "[1]")
    expected = 100 + (np.arange(40) - 19.5) / 1.25
    assert np.allclose(found["template"][0], expected[:, None], atol=1e-3)
    assert any("interpolated to the pixels" in note for note in found["notes"])


def test_beyond_its_edge(image_of, written):
    """A template is continued, an exposure is not known."""
    image = image_of(np.ones((40, 50), np.int32))
    small = written("s.fits", sky_hdu(latitude((20, 30))))
    template = counts_maps(image, template=small + "[1]")
    assert np.allclose(template["template"][0][:10], template["template"][0][10])
    assert any("covers" in note for note in template["notes"])
    exposure = counts_maps(image, exposure=small + "[1]")["exposure"][0]
    assert np.isnan(exposure[:9]).all() and np.isfinite(exposure[12:28, 12:38]).all()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("exposure", np.ones((7, 9)), "without a WCS of both"),
        ("psf", -1.0, "positive"),
        ("psf", "nan", "positive"),
        ("psf", np.zeros((5, 5)), "must be positive"),
        ("psf", np.eye(9)[::-1] - 0.5, "must be positive"),
        ("psf", np.roll(gaussian_image(3.0), 4, 0), "not in the middle"),
        ("psf", np.ones((3, 9, 9)), "3 images of the PSF"),
        ("template", "none.fits", "no such file"),
    ],
)
def test_refused_in_one_sentence(image_of, name, value, words):
    image = image_of(np.ones((40, 50), np.int32))
    with pytest.raises(FitsError, match=words) as caught:
        counts_maps(image, **{name: value})
    assert "\n" not in str(caught.value)


def test_a_map_far_away_is_refused(image_of, written):
    image = image_of(np.ones((40, 50), np.int32))
    far = sky_hdu(latitude((40, 50)), shift=500.0)
    with pytest.raises(FitsError, match="does not cover"):
        counts_maps(image, exposure=written("far.fits", far) + "[1]")


def test_energies_are_interpolated(image_of, written):
    low = 1000 * 2.0 ** np.arange(3)
    image = image_of(np.ones((3, 40, 50), np.int32), energy_table(low, 2 * low))
    assert np.allclose(band_energies(image), np.sqrt(2) * low)
    # Five planes, each with its number, at 500 * 2^k MeV: the bands lie halfway between two of them.
    values = np.ones((5, 40, 50), np.float32) * np.arange(5)[:, None, None]
    middle = 500 * 2.0 ** np.arange(5)
    bands = energy_table(middle / 1.1, middle * 1.1, name="PRIMARY_BANDS")
    found = counts_maps(image, template=written("t.fits", sky_hdu(values), bands) + "[1]")
    assert np.allclose(found["template"][:, 3, 3], [1.5, 2.5, 3.5], atol=1e-4)
    with pytest.raises(FitsError, match="energies"):
        counts_maps(image, template=written("u.fits", sky_hdu(values)) + "[1]")


def test_one_band_takes_the_energies_within_it(image_of, written):
    middle = 500 * 2.0 ** np.arange(5)
    values = np.ones((5, 40, 50), np.float32) * (10.0 ** np.arange(5))[:, None, None]
    bands = energy_table(middle / 1.1, middle * 1.1, name="PRIMARY_BANDS")
    path = written("t.fits", sky_hdu(values), bands) + "[1]"
    edges = energy_table(np.array([900.0]), np.array([2100.0]))
    image = image_of(np.ones((40, 50), np.int32), edges)
    # Of intensities per energy at 1 and 2 GeV, the second has twice the width.
    found = counts_maps(image, template=path)["template"]
    assert found.shape == (1, 40, 50) and np.allclose(found, (10 + 2 * 100) / 3)
    exposure = counts_maps(image, exposure=path)["exposure"]
    assert np.allclose(exposure, (10 + 100 / 2) / 1.5)


@pytest.mark.parametrize("side", [21, 22])
def test_an_image_of_the_psf_is_centred(image_of, side):
    image = image_of(np.ones((40, 50), np.int32))
    offsets = np.arange(side) - 10
    psf = 5 * np.exp(-(np.hypot(*np.meshgrid(offsets, offsets)) ** 2) / 8)
    (found,) = counts_maps(image, psf=psf)["psf"]
    middle = found.shape[0] // 2
    assert found.shape[0] % 2 == 1 and found.sum() == pytest.approx(1)
    assert np.unravel_index(found.argmax(), found.shape) == (middle, middle)
    assert area_fwhm(found) == pytest.approx(2 * 2.3548, rel=0.02)


@pytest.mark.parametrize(("scale", "tolerance"), [(0.1, 0.02), (0.5, 0.05), (2.0, 0.12)])
def test_a_psf_of_other_pixels(image_of, written, scale, tolerance):
    """Light is summed over the pixels of the map; interpolation of coarse pixels widens the PSF."""
    image = image_of(np.ones((40, 50), np.int32))
    psf = sky_hdu(gaussian_image(4.0 / scale, 2 * int(8 / scale) + 1), scale=scale * SCALE)
    (found,) = counts_maps(image, psf=written("psf.fits", psf) + "[1]")["psf"]
    assert found.sum() == pytest.approx(1)
    # A pixel widens the PSF by its own variance of 1/12.
    sigma = np.hypot(4 / 2.3548, np.sqrt(1 / 12))
    assert area_fwhm(found) == pytest.approx(2.3548 * sigma, rel=tolerance)


def test_the_pixel_scale_of_a_matrix(image_of):
    image = image_of(np.ones((40, 50), np.int32))
    assert pixel_scale(image) == pytest.approx(SCALE)
    for axis in (1, 2):
        image.header[f"CD{axis}_{axis}"] = image.header.pop(f"CDELT{axis}") / 2
    assert pixel_scale(image) == pytest.approx(SCALE / 2)
    for key in ("CTYPE1", "CTYPE2", "CD1_1", "CD2_2"):
        del image.header[key]
    assert pixel_scale(image) is None


def psf_table(path, sigma_of):
    """A table as gtpsf writes it, of a Gaussian whose width in degrees depends on the energy."""
    energy, theta = np.geomspace(500.0, 50_000.0, 9), np.linspace(0, 12, 400)
    light = [np.exp(-(theta**2) / 2 / sigma_of(e) ** 2) for e in energy]
    columns = [
        fits.Column("Energy", "D", array=energy), fits.Column("Exposure", "D", array=energy),
        fits.Column("Psf", "400D", array=np.array(light)),
    ]  # fmt: skip
    psf = fits.BinTableHDU.from_columns(columns, name="PSF")
    angles = fits.BinTableHDU.from_columns([fits.Column("Theta", "D", array=theta)], name="THETA")
    fits.HDUList([fits.PrimaryHDU(), psf, angles]).writeto(path)
    return str(path)


def test_a_table_of_the_psf(image_of, tmp_path):
    low = np.array([1000.0, 10_000.0])
    image = image_of(np.ones((2, 40, 50), np.int32), energy_table(low, 1.8 * low))
    path = psf_table(tmp_path / "psf.fits", lambda energy: 200.0 / energy)
    assert table_of_psf(image.path) is None
    found = counts_maps(image, psf=path)
    assert found["psf"].sum((1, 2)) == pytest.approx(1) and "table" in found["notes"][0]
    wide, narrow = area_fwhm(found["psf"])
    # Between the widths of the ends of the first band, 0.2 and 0.11 degrees.
    assert 0.11 / SCALE < wide / 2.3548 < 0.2 / SCALE and narrow < 1.2
    plain = image_of(np.ones((2, 40, 50), np.int32))
    with pytest.raises(FitsError, match="EBOUNDS"):
        counts_maps(plain, psf=path)


def test_a_wide_psf_is_not_cut(image_of, tmp_path):
    image = image_of(np.ones((40, 50), np.int32))
    path = psf_table(tmp_path / "psf.fits", lambda energy: 2.0)
    (found,) = counts_maps(image, psf=path)["psf"]
    assert area_fwhm(found) == pytest.approx(20 * 2.3548, rel=0.02)


@pytest.mark.skipif(not (DATA / "counts").is_dir(), reason="no real images")
def test_real_maps():
    folder = DATA / "counts"
    cube = read_image(folder / "fermigc_ccube_00.fits")
    found = counts_maps(
        cube, template=str(folder / "fermigc_gll_iem_v07_gc.fits.gz"),
        psf=str(folder / "fermigc_psf_00.fits"),
    )  # fmt: skip
    # 80 x 80 pixels as the cube has, but of 0.125 degrees: they are not those of the cube.
    assert found["template"].shape == (28, 80, 80)
    assert any("interpolated to the pixels" in note for note in found["notes"])
    widths = area_fwhm(found["psf"])
    assert (np.diff(widths) < 0).all() and 2.5 < widths[0] < 3.5
    ridge = found["template"][0].sum(1).argmax()
    assert abs(ridge - 39.5) <= 2
