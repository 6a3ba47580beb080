"""Other ways to detect, tested on stars whose place is known."""

import stat

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage
from skies import FWHM, control_frame, isolated_stars

from bgrem.detection.psf import gaussian_psf
from bgrem.detection.sextractor import detect_sextractor
from bgrem.evaluate import baselines
from bgrem.evaluate.baselines import detect_source_extractor, source_extractor_program
from bgrem.evaluate.comparison import evaluate_frames
from bgrem.evaluate.froc import froc
from bgrem.evaluate.methods import comparison_methods


@pytest.fixture(scope="module")
def field():
    return isolated_stars(11, size=256)


@pytest.fixture(scope="module")
def cleaned(field):
    data, sources, _ = field
    return baselines.denoise_wavelets((data - 1000.0) / 10.0), sources / 10.0


def bright_found(detections, truth):
    """Share of the bright stars within the first detections that hold 100 false per Mpix."""
    curve = froc(detections, truth)
    return curve.found(100.0)[curve.source_snr > 15].mean()


def test_photutils_finds_stars(field):
    pytest.importorskip("photutils")
    data, _, truth = field
    mask = np.zeros(data.shape, dtype=bool)
    mask[100:104, 40:80] = True
    spoiled = np.where(mask, np.nan, data)
    found = baselines.detect_photutils(spoiled, gaussian_psf(FWHM), mask=mask)
    assert bright_found(found, truth) > 0.9
    at = np.rint(found["y"]).astype(int), np.rint(found["x"]).astype(int)
    assert not mask[at].any()


def test_wavelets_find_stars(field):
    data, _, truth = field
    assert bright_found(baselines.detect_wavelets(data), truth) > 0.9


def test_starlet_scales_add_up():
    image = np.random.default_rng(0).standard_normal((50, 70))
    scales = baselines.starlet(image, 4)
    assert len(scales) == 5
    np.testing.assert_allclose(sum(scales), image, atol=1e-12)
    # The finest scale of white noise holds 0.889 of its standard deviation (Starck & Murtagh).
    assert scales[0].std() == pytest.approx(0.889, abs=0.02)


def test_wavelets_take_the_noise_and_leave_the_stars(cleaned):
    image, sources = cleaned
    dark = sources < 0.01
    assert np.std(image[dark]) < 0.35
    bright = sources > 20
    assert np.median(image[bright] / sources[bright]) == pytest.approx(1.0, abs=0.08)


def test_a_region_is_its_brightest_pixel():
    image = np.random.default_rng(0).standard_normal((60, 70))
    labels, count = ndimage.label(ndimage.gaussian_filter(image, 2) > 0.05)
    found = baselines._labelled(labels, image)
    assert sorted(found["score"]) == sorted(ndimage.maximum(image, labels, range(1, count + 1)))
    assert (image[found["y"].astype(int), found["x"].astype(int)] == found["score"]).all()
    assert baselines._labelled(0, image).size == 0


FAKE = """\
#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$*" in *segmented*) cp "{answer}" segmented.fits ;; esac
exit {code}
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes programs of NoiseChisel's names that log their call and give a known answer."""

    def make(code=0):
        light, clumps, objects = np.zeros((3, 64, 64), np.float32)
        # Two clumps in one object, an object without a clump, another with its own first one, and a
        # river, which is none.
        clumps[10:15, 10:15], clumps[10:15, 20:25], clumps[12, 17] = 1, 2, -1
        objects[8:18, 8:28], objects[40:44, 40:44] = 1, 2
        clumps[50:53, 10:13] = 1
        objects[48:55, 8:15] = 3
        light[51, 11] = 20.0
        light[12, 12], light[11, 22], light[42, 41] = 100.0, 300.0, 50.0
        planes = {"INPUT": light, "CLUMPS": clumps.astype(np.int32),
                  "OBJECTS": objects.astype(np.int32), "SKY_STD": np.ones_like(light)}  # fmt: skip
        answer, log = tmp_path / "answer.fits", tmp_path / "log"
        images = [fits.ImageHDU(plane, name=name) for name, plane in planes.items()]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(answer, overwrite=True)
        for name in baselines.NOISECHISEL_PROGRAMS:
            path = tmp_path / name
            path.write_text(FAKE.format(log=log, answer=answer, code=code))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return log

    return make


def test_noisechisel_is_called_and_its_clumps_are_read(programs):
    log = programs()
    found = baselines.detect_noisechisel(np.zeros((64, 64)))
    calls = log.read_text().splitlines()
    assert len(calls) == 2 * len(baselines.QUANTILES)
    assert calls[2].split()[:4] == [
        "astnoisechisel", "image.fits", "--hdu=0", "--output=detected.fits"
    ]  # fmt: skip
    assert "--snquant=0.99" in calls[2] and "--snquant=0.99" in calls[3]
    assert calls[3].startswith("astsegment detected.fits --output=segmented.fits")
    # The brightest first, each once, the river and the object around the clumps never.
    assert list(zip(found["x"], found["y"], strict=True)) == [
        (22, 11),
        (12, 12),
        (41, 42),
        (11, 51),
    ]


def of_noisechisel(frame):
    return baselines.detect_noisechisel(frame.data, mask=frame.mask)


def compared(frame):
    chosen = {
        "matched filter": comparison_methods()["matched filter"],
        "noisechisel": of_noisechisel,
    }
    return evaluate_frames([frame], chosen, title="control").table()


def test_missing_noisechisel_is_reported(field, monkeypatch, tmp_path):
    pytest.importorskip("astroscrappy")
    monkeypatch.setenv("PATH", str(tmp_path))
    text = compared(control_frame(field[0], field[2]))
    assert "noisechisel        astnoisechisel (gnuastro) is not installed" in text


def test_failing_noisechisel_is_reported(field, programs):
    pytest.importorskip("astroscrappy")
    programs(code=1)
    assert "noisechisel        failed on control" in compared(control_frame(field[0], field[2]))


@pytest.mark.skipif(
    any(baselines.shutil.which(name) is None for name in baselines.NOISECHISEL_PROGRAMS),
    reason="programs not installed",
)
def test_the_programs_find_stars(field):
    data, _, truth = field
    found = baselines.detect_noisechisel(data)
    curve = froc(found, truth)
    assert curve.found(np.inf)[curve.source_snr > 40].mean() > 0.6


def test_other_methods_are_optional():
    pytest.importorskip("astroscrappy")
    plain, more = comparison_methods(), comparison_methods(others=True)
    assert set(more) - set(plain) == {"sep", "photutils", "wavelets", "noisechisel"}


def test_a_missing_library_is_reported(field):
    def absent(_):
        raise ModuleNotFoundError("No module named 'photutils'", name="photutils")

    chosen = {"sextractor default": comparison_methods()["sextractor default"], "photutils": absent}
    text = evaluate_frames([control_frame(field[0], field[2])], chosen, title="control").table()
    assert "photutils          photutils is not installed" in text


@pytest.mark.skipif(source_extractor_program() is None, reason="program not installed")
def test_the_program_agrees_with_sep():
    data, _, truth = isolated_stars(3, size=384)
    program = froc(detect_source_extractor(data), truth)
    library = froc(detect_sextractor(data), truth)
    assert program.true_positives(100) == pytest.approx(library.true_positives(100), rel=0.03)
