"""The sky of an image as users ask for it: network or mesh, wide light in either part, its error."""

import numpy as np
import pytest
from astropy.io import fits
from skies import exponential_disc, flat_sky, star_field

from bgrem.background import separate
from bgrem.cli.bgrem import main
from bgrem.inference.model import load_model
from bgrem.io.restore import undo
from bgrem.processing.files import process_file
from bgrem.sky.measured import CellSky

SHAPE = (300, 340)
UNIT, LEVEL = 5.0, 1000.0


class FlatSky:
    """In place of a sky network: a flat sky at the lowest blocks, and wide light above it."""

    sha256 = "ab" * 32

    def __call__(self, statistics):
        planes = statistics.planes
        cells = planes.reshape(6, planes.shape[1] // 2, 2, planes.shape[2] // 2, 2).mean((2, 4))
        known = cells[5] > 0
        level = np.quantile(cells[2][known], 0.1)
        rms = np.median(cells[4][known])
        wide = np.where(known & (cells[2] > level + 0.5 * rms), 1.0, 0.0)
        flat = np.ones_like(cells[0])
        found = (level * flat, rms * flat, 0.05 * rms * flat, wide)
        return CellSky(*(values.astype(np.float32) for values in found))


@pytest.fixture
def model(toy_model_path):
    """The toy model with a sky network whose answers are known."""
    model = load_model(toy_model_path, threads=1)
    model.__dict__["sky"] = FlatSky()
    return model


def disc():
    return exponential_disc(SHAPE, 170, 150, 60, 30.0).astype(float)


def galaxy(dtype=np.float32):
    stars = star_field(SHAPE, level=LEVEL, rms=UNIT, height=200.0, sigma=1.6)
    return (stars + disc()).astype(dtype)


def check_sum(parts, data):
    known = np.isfinite(data)
    s, b, n, d = (
        np.asarray(part, np.float64)[known]
        for part in (parts.sources, parts.background, parts.noise, data)
    )
    assert np.all(np.abs(s + b + n - d) <= 1e-6 * (abs(s) + abs(b) + abs(n) + abs(d)))


@pytest.mark.parametrize("option", ["sky", "extended"])
@pytest.mark.parametrize("value", ["meshes", "", None, 1])
def test_unknown_values_are_refused(model, option, value):
    with pytest.raises(ValueError, match=f"{option} must be '.*' or '.*', not ") as error:
        separate(galaxy(), model=model, **{option: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sky", ["network", "mesh"])
def test_wide_light_goes_where_asked(model, dtype, sky):
    data = galaxy(dtype)
    data[3, 4] = np.nan
    one, other = (
        separate(data, model=model, sky=sky, extended=e) for e in ("sources", "background")
    )
    check_sum(one, data)
    check_sum(other, data)
    np.testing.assert_array_equal(one.significance, other.significance)
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_allclose(one.noise, other.noise, atol=1e-3)
    found = one.provenance.extended, other.provenance.extended
    assert found == ("background" if sky == "mesh" else "sources", "background")
    if sky == "mesh":
        np.testing.assert_array_equal(one.sources, other.sources)
        assert one.provenance.sky == "mesh"
    else:
        moved = np.nan_to_num(one.sources - other.sources)
        np.testing.assert_allclose(moved, other.background - one.background, atol=1e-2)
        assert moved.sum() > 0.3 * disc().sum()
        assert one.provenance.sky == "network abababababab"
        assert np.ptp(one.background) < 1e-3 * LEVEL


def test_all_wide_light_is_in_the_sources(model):
    parts = separate(galaxy() - star_field(SHAPE, level=0, rms=0, height=200.0, sigma=1.6),
                     model=model)  # fmt: skip
    # What the stand-in takes for sky, as the disc fills the frame, is not missing.
    light = disc() - (parts.background - LEVEL)
    bright = light > UNIT
    assert parts.sources[bright].sum() / light[bright].sum() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("sky", ["network", "mesh"])
def test_the_error_of_the_background_is_known(model, sky):
    parts = separate(galaxy(), model=model, sky=sky)
    assert parts.background_error.shape == SHAPE
    assert np.isfinite(parts.background_error).all() and (parts.background_error > 0).all()
    assert (parts.uncertainty >= parts.background_error * (1 - 1e-6)).all()
    if sky == "network":
        np.testing.assert_allclose(parts.background_error, 0.05 * parts.rms, rtol=1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (20, 33), (17, 131)])
@pytest.mark.parametrize("included", [True, False])
def test_small_images_have_all_parts(model, toy_model, shape, included):
    data = flat_sky(shape, LEVEL, UNIT)
    parts = separate(data, model=toy_model if included else model)
    check_sum(parts, data)
    assert np.isfinite(parts.background).all() and (parts.background_error > 0).all()
    assert np.abs(parts.background - LEVEL).max() < 3 * UNIT


def test_too_few_good_pixels_have_a_mesh(model):
    data = flat_sky((200, 220), LEVEL, UNIT)
    bad = np.random.default_rng(1).random(data.shape) < 0.995
    parts = separate(data, mask=bad, model=model)
    check_sum(parts, data)
    assert parts.provenance.sky == "mesh"
    assert np.median(parts.background) == pytest.approx(LEVEL, abs=UNIT)


def test_few_counts_have_a_mesh(model):
    counts = np.random.default_rng(2).poisson(0.05, (200, 220))
    assert separate(counts, model=model).provenance.sky == "mesh"


# --- files


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "frame.fits"
    fits.PrimaryHDU(np.rint(galaxy()).astype(np.int16)).writeto(path)
    return path


@pytest.mark.parametrize("extended", ["sources", "background"])
def test_wide_light_is_undone_byte_for_byte(frame, model, extended):
    save = ("background", "noise", "bkgerr", "uncertainty")
    result = process_file(frame, model=model, extended=extended, save=save)
    with fits.open(result.output) as hdus:
        header = hdus[0].header
        assert (header["BGR_SKY"], header["BGR_EXT"]) == ("network abababababab", extended)
        assert (hdus["BKGERR"].data > 0).all()
        assert (hdus["UNCERT"].data >= hdus["BKGERR"].data * (1 - 1e-6)).all()
        total = sum(hdus[name].data.astype(float) for name in (0, "BACKGROUND", "NOISE"))
        np.testing.assert_allclose(total, fits.getdata(frame), atol=1e-3)
    assert undo(result.output).read_bytes() == frame.read_bytes()


def test_the_command_has_the_options(frame, toy_model_path, capsys):
    words = ["-f", str(frame), "--model", toy_model_path, "--save", "bkgerr", "--quiet"]
    assert main([*words, "--extended", "background", "--sky", "mesh"]) == 0
    with fits.open(frame.with_name("BGRem_frame.fits")) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "BKGERR"]
        assert (hdus[0].header["BGR_SKY"], hdus[0].header["BGR_EXT"]) == ("mesh", "background")
        assert hdus["BKGERR"].data.shape == SHAPE
    assert main([*words, "--overwrite"]) == 0
    header = fits.getheader(frame.with_name("BGRem_frame.fits"))
    assert header["BGR_SKY"].startswith("network ") and header["BGR_EXT"] == "sources"
    with pytest.raises(SystemExit):
        main([*words, "--extended", "noise"])
    assert "invalid choice" in capsys.readouterr().err
