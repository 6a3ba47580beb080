"""Masks, weights and saturation levels that go with an image."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from skies import flat_sky

from bgrem.io.maps import bits_set, maps_for, parse_bits, read_map, saturation_level
from bgrem.io.reading import FitsError, read_image

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (64, 80)


def sky(seed=0):
    image = flat_sky(SHAPE, 300, 4, seed=seed)
    image[5:8, 5:8] = 340
    return image


@pytest.fixture
def mosaic(tmp_path):
    """An image with the number of each pixel as its flags, in the same file."""
    flags = np.arange(sky().size, dtype=np.int32).reshape(SHAPE)
    units = [
        fits.PrimaryHDU(),
        fits.ImageHDU(sky(), fits.Header({"SATURATE": 330.0}), name="SCI"),
        fits.CompImageHDU(flags, name="FLAGS"),
    ]
    fits.HDUList(units).writeto(tmp_path / "mosaic.fits")
    return tmp_path / "mosaic.fits"


def write(path, data):
    fits.PrimaryHDU(data).writeto(path)
    return path


# --- bits


def test_bits():
    assert parse_bits("4096,16") == parse_bits("0x1010") == parse_bits(" 0x1000, 16") == 0x1010
    assert parse_bits("3") == 3
    for text in ("", "0", "-4", "1.5", "bad", "4,,8", str(1 << 60)):
        with pytest.raises(ValueError):
            parse_bits(text)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i8", "f4", "f8"])
def test_bits_of_every_type(dtype):
    flags = np.array([[0, 1, 4, 5, 96]], dtype=dtype)
    np.testing.assert_array_equal(bits_set(flags, "", None), flags != 0)
    np.testing.assert_array_equal(bits_set(flags, "", 4), [[False, False, True, True, False]])
    np.testing.assert_array_equal(bits_set(flags, "", 0x60), flags == 96)


def test_nan_is_bad_and_fractions_have_no_bits():
    np.testing.assert_array_equal(bits_set(np.array([[np.nan, 2.0]]), "", 1), [[True, False]])
    with pytest.raises(FitsError, match=r"m.fits: HDU 0 has no bits"):
        bits_set(np.array([[0.5]]), "m.fits: HDU 0", 1)


# --- reading


def test_every_form(mosaic, tmp_path, monkeypatch):
    image = read_image(mosaic)
    flags = np.arange(sky().size).reshape(SHAPE)
    write(tmp_path / "m.fits", flags.astype(np.int32))
    for text in (str(tmp_path / "m.fits"), f"{tmp_path / 'm.fits'}[0]", "FLAGS", "2", flags):
        np.testing.assert_array_equal(read_map(text, image, "mask")[0], flags)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FLAGS").mkdir()
    assert read_map("FLAGS", image, "mask")[1] == f"{mosaic}: HDU 2 (FLAGS)"


def test_one_plane_serves_a_cube(tmp_path):
    cube = read_image(write(tmp_path / "a.fits", np.stack([sky(), sky()])))
    write(tmp_path / "m.fits", np.ones((1, *SHAPE), np.uint8))
    maps = maps_for(cube, mask=tmp_path / "m.fits", weight=np.stack([sky(), 2 * sky()]))
    np.testing.assert_array_equal(maps.of_plane(0)["mask"], maps.of_plane(1)["mask"])
    np.testing.assert_array_equal(2 * maps.of_plane(0)["weight"], maps.of_plane(1)["weight"])


def test_maps_that_do_not_fit(tmp_path):
    image = read_image(write(tmp_path / "a.fits", sky()))
    write(tmp_path / "m.fits", np.ones((5, 6), np.uint8))
    with pytest.raises(FitsError, match="m.fits: HDU 0 is a mask of 6 x 5 pixels, but the image"):
        read_map(str(tmp_path / "m.fits"), image, "mask")
    for shape in [(5, 6), (2, *SHAPE), (1, SHAPE[1]), SHAPE[1:], ()]:
        with pytest.raises(FitsError, match="the array is a weight map of .* pixels, but the im"):
            read_map(np.zeros(shape), image, "weight map")
    with pytest.raises(FitsError, match="n.fits: no such file .it was to be the weight map"):
        read_map(str(tmp_path / "n.fits"), image, "weight map")
    with pytest.raises(FitsError, match="there is no HDU named DQ"):
        read_map("DQ", image, "mask")


@pytest.mark.parametrize(
    ("card", "level"),
    [("65535.", 65535.0), (4095, 4095.0), (1e4, 1e4), ("none", None), (0, None), (True, None)],
)
def test_saturation_level(tmp_path, card, level):
    fits.PrimaryHDU(sky(), fits.Header({"SATURATE": card})).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert saturation_level(image) == level
    assert maps_for(image).saturate == level
    assert maps_for(image, saturate=7.0).saturate == 7.0
    assert maps_for(image, saturate=None).saturate is None


# --- the command


def bgrem(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "bgrem", *map(str, arguments)], env=environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command_takes_them_all(mosaic, tmp_path, toy_model_path):
    weight = np.ones(SHAPE, np.float32)
    weight[:, 50:] = 1 / 9
    weight[10:20, 10:20] = 0
    weight_file = write(tmp_path / "w.fits", weight)
    done = bgrem(
        "-f", mosaic, "--model", toy_model_path, "--mask", "FLAGS", "--mask-bits", "0x400,8",
        "--weight", f"{weight_file}[0]", "--save", "rms,mask,noise,background",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    flags = np.arange(sky().size).reshape(SHAPE)
    with fits.open(mosaic.with_name("BGRem_mosaic.fits")) as hdus:
        mask, rms = hdus["MASK"].data, hdus["RMS"].data
        total = sum(hdus[name].data.astype(float) for name in ("SCI", "BACKGROUND", "NOISE"))
        assert hdus["SCI"].header["BGR_SATU"] == 330.0
        assert hdus["SCI"].header["BGR_WGHT"] == "inverse"
    np.testing.assert_array_equal(mask & 2 > 0, flags & 0x408 > 0)
    np.testing.assert_array_equal(mask & 8 > 0, sky() >= 330)
    np.testing.assert_array_equal(mask & 16 > 0, weight == 0)
    assert rms[30, 60] == pytest.approx(3 * rms[30, 20], rel=1e-5)
    np.testing.assert_allclose(total, sky(), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--mask-bits", "x"], 2, "'x' is no value of mask bits (such as 4096 or 0x1000)"),
        (["--weight-type", "time"], 2, "invalid choice: 'time'"),
        (["--saturate", "high"], 2, "'high' is not a number"),
        (["--weight", "none.fits"], 1, "none.fits: no such file (it was to be the weight map)"),
        (["--mask-bits", "4"], 1, "--mask-bits needs a --mask"),
        (["--weight", "0"], 1, "holds no image; images are in HDU 1 (SCI), HDU 2 (FLAGS)"),
    ],
)
def test_one_sentence_and_nothing_written(mosaic, toy_model_path, arguments, code, sentence):
    done = bgrem("-f", mosaic, "--model", toy_model_path, *arguments)
    assert done.returncode == code
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in mosaic.parent.iterdir()] == ["mosaic.fits"]
