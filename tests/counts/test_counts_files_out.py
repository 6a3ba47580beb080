"""Counts maps through the real command: what is written, kept, refused and undone."""

import numpy as np
import pytest
from astropy.io import fits

from bgrem.cli.bgrem import main
from bgrem.cli.undo import main as undo_main
from bgrem.counts_scenes.counts_files import counts_scene, draw_numbered_counts, write_counts


@pytest.fixture(autouse=True)
def known_models(counts_file, monkeypatch, tmp_path):
    """The untrained network is the model "counts" here."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "counts.onnx").write_bytes(counts_file.read_bytes())
    monkeypatch.setenv("BGREM_MODELS", str(folder))


@pytest.fixture
def drawn(tmp_path):
    def draw(name="map.fits", **changes):
        scene = counts_scene("fermi", **{"shape": (64, 80), **changes})
        path = tmp_path / name
        write_counts(path, draw_numbered_counts(scene, seed=3, number=0), seed=3)
        return path

    return draw


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_a_counts_map_is_recognised_and_reported(drawn, capsys):
    path = drawn()
    assert run("-f", path, "--save", "background,noise,uncertainty,significance,rms,mask") == 0
    said = capsys.readouterr()
    assert "model=toy" in said.out and "the model counts is used" in said.err
    with fits.open(path) as before, fits.open(path.with_name("BGRem_map.fits")) as after:
        names = [hdu.name for hdu in after]
        assert {"BACKGROUND", "NOISE", "UNCERT", "SIGNIF", "RMS", "MASK", "TRUTH"} <= set(names)
        # The simulated file has planes of these names, too: the last ones are bgrem's.
        last = {hdu.name: hdu.data for hdu in after}
        total = after[0].data.astype(float) + last["BACKGROUND"] + last["NOISE"]
        assert np.abs(total - before["DATA"].data).max() < 1e-3
        assert (after["DATA"].data >= 0).all() and after[0].header["BGR_MODL"] == "toy"
        for keyword in ("CTYPE1", "CRVAL2", "BUNIT"):
            assert after[0].header[keyword] == before[0].header[keyword]
        assert "BGR_E64" not in after[0].header


@pytest.mark.parametrize("bands", [1, 3])
def test_undo_gives_the_same_bytes(drawn, bands):
    path = drawn(bands=bands)
    given = ["--exposure", "EXPOSURE", "--template", "TEMPLATE", "--psf", "PSF"]
    assert run("-f", path, "--save", "background,noise", *given) == 0
    written = path.with_name("BGRem_map.fits")
    assert undo_main([str(written)]) == 0
    assert path.with_name("restored_map.fits").read_bytes() == path.read_bytes()
    with fits.open(written) as after:
        assert after[0].data.shape[-2:] == (64, 80)
        assert after[0].header["BGR_FWSR"] == "given"


def test_other_models_take_precedence(drawn, capsys):
    path = drawn()
    assert run("-f", path, "--model", "optical") == 0
    assert "model=optical" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--catalog"], "--catalog is not for maps of counts"),
        (["--minpix", "2"], "--minpix is not for maps of counts"),
        (["--sky", "mesh"], "--sky is not for maps of counts"),
        (["--save", "bkgerr"], "gives no bkgerr"),
        (["--psf", "none.fits"], "no such file"),
        (["--psf", "-2"], "must be positive"),
        (["--exposure", "PSF"], "exposure"),
    ],
)
def test_refused_in_a_sentence(drawn, capsys, options, words):
    path = drawn()
    assert run("-f", path, *options) == 1
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert not path.with_name("BGRem_map.fits").exists()


def test_what_is_no_counts_is_refused(drawn, capsys):
    path = drawn()
    with fits.open(path, mode="update") as hdus:
        hdus[0].data = (hdus[0].data * 0.37).astype(np.float32)
    assert run("-f", path, "--model", "counts") == 1
    assert "whole numbers" in capsys.readouterr().err
    assert run("-f", path, "--psf", "3") == 1
    assert "for maps of counts" in capsys.readouterr().err


def test_masks_and_pages(drawn, tmp_path, capsys):
    pytest.importorskip("jinja2")
    path = drawn()
    mask = np.zeros((64, 80), np.uint8)
    mask[5:9, 5:9] = 1
    fits.PrimaryHDU(mask).writeto(tmp_path / "mask.fits")
    assert (
        run("-f", path, "--mask", tmp_path / "mask.fits", "--report", "--plot", "--psf", "3") == 0
    )
    with fits.open(path.with_name("BGRem_map.fits")) as after:
        assert not after[0].data[5:9, 5:9].any()
    assert path.with_name("BGRem_map.fits.html").stat().st_size > 10_000


def test_a_psf_of_another_pixel_scale(drawn, tmp_path):
    from bgrem.counts.counts_input import area_fwhm, gaussian_image
    from bgrem.counts.counts_maps import counts_maps
    from bgrem.io.reading import read_image

    path = drawn()
    image = read_image(path)
    psf = fits.PrimaryHDU(gaussian_image(8.0, 41))
    psf.header["CDELT2"] = image.header["CDELT2"] / 2
    psf.writeto(tmp_path / "psf.fits")
    found = counts_maps(image, psf=str(tmp_path / "psf.fits"))["psf"]
    # A pixel widens it by its own variance of 1/12.
    assert area_fwhm(found)[0] == pytest.approx(4.06, rel=0.02)
    off = np.roll(gaussian_image(4.0), 5, axis=1)
    with pytest.raises(ValueError, match="not in the middle"):
        counts_maps(image, psf=off)


def test_an_exposure_on_other_pixels(drawn, tmp_path):
    from bgrem.counts.counts_maps import counts_maps
    from bgrem.io.reading import read_image

    path = drawn()
    image = read_image(path)
    wide = fits.PrimaryHDU(np.indices((60, 60), np.float32)[1] + 1)
    for key in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CUNIT1", "CUNIT2"):
        wide.header[key] = image.header[key]
    for axis in (1, 2):
        wide.header[f"CDELT{axis}"] = 2 * image.header[f"CDELT{axis}"]
        wide.header[f"CRPIX{axis}"] = 30.5
    wide.writeto(tmp_path / "exposure.fits")
    found = counts_maps(image, exposure=str(tmp_path / "exposure.fits"))
    steps = np.diff(found["exposure"][0], axis=1)
    assert found["exposure"].shape == (1, 64, 80) and np.allclose(steps, 0.5, atol=1e-3)
    assert "interpolated" in found["notes"][0]


def test_a_frame_with_a_gain_is_one_of_a_camera(drawn, capsys):
    path = drawn()
    fits.setval(path, "GAIN", value=1.2)
    assert run("-f", path) == 0
    assert "model=optical" in capsys.readouterr().out
    assert run("-f", path, "--psf", "3", "--overwrite") == 0
    assert "model=toy" in capsys.readouterr().out
