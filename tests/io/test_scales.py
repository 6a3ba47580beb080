"""Asinh-scaled pixels are read and written as flux; logarithmic units are refused."""

import numpy as np
import pytest
from astropy.io import fits
from skies import flat_sky

from bgrem.io.maps import maps_for
from bgrem.io.reading import FitsError, read_image
from bgrem.io.restore import undo
from bgrem.io.scales import SCALE_CARDS, AsinhScale, asinh_scale, check_linear
from bgrem.processing.files import process_file

SCALE = AsinhScale(softening=22.0, offset=-7.5)
CARDS = {"BSOFTEN": 22.0, "BOFFSET": -7.5}
PLANES = ["background", "noise", "rms", "uncertainty"]


def flux(shape=(60, 80)):
    data = flat_sky(shape, 3.0, 5.0, seed=1, dtype=float)
    data[20:23, 30:33] += 4000
    return data


def stack(path, dtype="f4", *, compressed=False, data=None, **cards):
    """A file of asinh-scaled pixels; integers as Pan-STARRS stores them."""
    stored = SCALE.stored(flux() if data is None else data)
    header = fits.Header({**CARDS, **cards})
    if dtype == "i2":
        low, step = stored.min(), np.ptp(stored) / 60000
        stored = np.round((stored - low) / step) - 30000
        header["BLANK"] = 32767
    stored = stored.astype(dtype)
    if compressed:
        unit = fits.CompImageHDU(stored, header, compression_type="GZIP_2", quantize_level=0)
    else:
        unit = fits.ImageHDU(stored, header)
    if dtype == "i2":
        unit.header["BSCALE"], unit.header["BZERO"] = step, low + 30000 * step
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
    return path


def test_the_formula_of_pan_starrs():
    stored = np.array([-2.0, 0.0, 1.0, 8.0])
    x = stored / 1.0857362
    expected = -7.5 + 22.0 * (np.exp(x) - np.exp(-x))
    np.testing.assert_allclose(SCALE.linear(stored), expected, rtol=1e-6)
    np.testing.assert_allclose(SCALE.stored(SCALE.linear(stored)), stored, atol=1e-14)
    assert asinh_scale({}) is None
    assert asinh_scale({"BOFFSET": 100.0}) is None  # the bias of another camera
    assert asinh_scale({"BSOFTEN": 2}) == AsinhScale(2.0, 0.0)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
@pytest.mark.parametrize("compressed", [False, True])
def test_flux_is_read(tmp_path, dtype, compressed):
    image = read_image(stack(tmp_path / "a.fits", dtype, compressed=compressed))
    tolerance = {"f4": 1e-4, "f8": 1e-9, "i2": 0.02}[dtype]
    np.testing.assert_allclose(image.data, flux(), rtol=tolerance, atol=tolerance)
    assert image.data.dtype == ("f8" if dtype == "f8" else "f4")
    assert any("asinh-scaled" in note for note in image.notes)


@pytest.mark.parametrize("options", [{}, {"keep_level": True}, {"nonnegative": True}])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_the_output_is_right_by_its_header(tmp_path, toy_model, dtype, options):
    path = stack(tmp_path / "a.fits", dtype, BUNIT="DN")
    before = read_image(path).data.astype(float)
    result = process_file(path, model=toy_model, save=PLANES, **options)
    with fits.open(result.output) as hdus:
        assert hdus[1].header["BSOFTEN"] == 22 and hdus[1].header["BOFFSET"] == -7.5
        sources = SCALE.linear(hdus[1].data)
        for name in ("BACKGROUND", "NOISE", "RMS", "UNCERT"):
            assert not {*SCALE_CARDS} & {*hdus[name].header}
        parts = [hdus[name].data.astype(float) for name in ("BACKGROUND", "NOISE")]
        assert "asinh-scaled" in str(hdus[1].header["HISTORY"])
        level = hdus[1].header["BGR_LEVL"] if options.get("keep_level") else 0
        assert np.median(hdus["RMS"].data) == pytest.approx(5, rel=0.1)
    largest = abs(sources) + abs(before) + sum(map(abs, parts))
    assert (abs(sources - level + sum(parts) - before) <= 3e-7 * largest).all()
    assert level or abs(np.median(sources)) < 0.5
    assert any("asinh-scaled" in line for line in result.warnings)
    restored = undo(result.output)
    (first, header), (second, other) = (
        fits.getdata(name, 1, header=True, do_not_scale_image_data=True)
        for name in (path, restored)
    )
    assert repr(header) == repr(other)
    step = 0 if dtype == "i2" else np.spacing(abs(first).astype(dtype))
    assert (abs(first.astype(float) - second) <= step).all()


def test_blank_infinite_and_weights(tmp_path, toy_model):
    data = SCALE.stored(flux()).astype("f4")
    data[5, 5], data[6, 6] = np.nan, 1e4
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(data, fits.Header(CARDS)).writeto(path)
    variance = stack(tmp_path / "a.wt.fits", data=np.full(data.shape, 25.0))
    image = read_image(path)
    weight = maps_for(image, weight=variance).weight
    np.testing.assert_allclose(weight, 25, rtol=1e-4)
    result = process_file(
        path, model=toy_model, save=PLANES, weight=variance, weight_type="variance"
    )
    assert np.isnan(fits.getdata(result.output)[[5, 6], [5, 6]]).all()
    restored = fits.getdata(undo(result.output))
    assert np.isnan(restored[5, 5]) and restored[6, 6] == np.float32(1e4)


@pytest.mark.parametrize("value", [0.0, -1.0, "soft", True])
def test_unusable_scales_are_refused(tmp_path, value):
    path = stack(tmp_path / "a.fits", BSOFTEN=value)
    with pytest.raises(FitsError, match=r"a\.fits: HDU 1 has an unusable BSOFTEN or BOFFSET"):
        read_image(path)


@pytest.mark.parametrize(
    "unit",
    [
        "mag", "MAG", "mag(AB)", "ABmag", "AB mag", "magnitude", "mmag", "mag/arcsec2",
        "mag arcsec-2", "mag/arcsec^2", "mag_arcsec2", "dex", "dex(cm/s2)", "dB", "dBm",
        "log10(Jy)", "log(counts)", "Log10 counts", "ln(flux)", "sqrt(counts)", "luptitudes",
    ],
)  # fmt: skip
def test_logarithmic_units_are_refused(unit):
    with pytest.raises(FitsError, match="a.fits is in .*, in which light does not add up"):
        check_linear({"BUNIT": unit}, "a.fits")


@pytest.mark.parametrize(
    "unit",
    [
        "", "adu", "DN", "counts", "electron/s", "nanomaggy", "nmgy", "maggies", "MJy/sr", "Jy/beam",
        "1E-17 erg/(s cm2 Angstrom)", "magnification", "W/sqrt(Hz)", "logical", "image", "ct / s",
    ],
)  # fmt: skip
def test_linear_units_are_not(unit):
    check_linear({"BUNIT": unit}, "a.fits")


def test_a_map_of_magnitudes_is_refused(tmp_path, toy_model):
    path = tmp_path / "a.fits"
    maps = [fits.ImageHDU(flux().astype("f4"), fits.Header({"BUNIT": u})) for u in ("mag", "adu")]
    fits.HDUList([fits.PrimaryHDU(), *maps]).writeto(path)
    with pytest.raises(FitsError, match="HDU 1 is in mag"):
        process_file(path, model=toy_model)
    result = process_file(path, model=toy_model, hdu="all")
    assert any("left alone, HDU 1 is in mag" in line for line in result.warnings)
