"""Light that ends in the noise is reported, with its fraction and its place."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from skies import flat_sky, gaussian_stars

from bgrem.background import separate
from bgrem.detection.lost_light import LostLight
from bgrem.masks.flags import ARTEFACT, MASKED, SATURATED
from bgrem.sky.estimate import estimate_mesh

SHAPE = (192, 200)


def lost_light(light, sources, flags=None):
    """Gathered from strips of 16 rows of light on a noisy sky of rms 1."""
    image = (light + flat_sky(SHAPE, 0.0, 1.0)).astype(np.float32)
    mesh = estimate_mesh(flat_sky(SHAPE, 0.0, 1.0), box=96)
    flags = np.zeros(SHAPE, np.uint8) if flags is None else flags
    gathered = LostLight(mesh)
    for top in range(0, SHAPE[0], 16):
        rows = slice(top, top + 16)
        gathered.add(rows, image[rows], sources[rows], mesh.rms[rows], flags[rows])
    return gathered


def stars(count=30, height=400.0, sigma=1.3, seed=1):
    rng = np.random.default_rng(seed)
    y, x = (rng.uniform(8, n - 8, count) for n in SHAPE)
    return gaussian_stars(SHAPE, x, y, height, sigma).astype(np.float32)


def test_nothing_lost_is_nothing_reported():
    gathered = lost_light(stars(), stars())
    assert gathered.fraction < 0.01
    assert gathered.warnings() == []
    assert lost_light(np.zeros(SHAPE), np.zeros(SHAPE, np.float32)).warnings() == []


@pytest.mark.parametrize("part", [0.05, 0.3, 1.0])
def test_the_fraction_is_that_of_the_light(part):
    light = stars(sigma=2.5)
    gathered = lost_light(light, np.float32(1 - part) * light)
    assert gathered.fraction == pytest.approx(part, abs=0.04)
    assert bool(gathered.warnings()) == (part > 0.1)


def test_the_place_is_where_most_is_lost():
    light = stars()
    sources = light.copy()
    sources[:96, 100:] = 0
    gathered = lost_light(light, sources)
    assert gathered.place == (150, 48)
    assert "near x=150, y=48" in gathered.warnings()[0]


@pytest.mark.parametrize(("width", "warned"), [(1, False), (5, True)])
def test_a_lost_trail_is_reported_with_its_place(width, warned):
    light = stars(count=200, sigma=2.0)
    trail = np.zeros(SHAPE, np.float32)
    trail[30 : 30 + width] = 12.0
    gathered = lost_light(light + trail, light)
    assert gathered.fraction < 0.1
    (found,) = gathered.warnings() or [""]
    assert ("bright pixels near x=" in found and "y=48 are in the noise" in found) == warned


@pytest.mark.parametrize("bit", [MASKED, SATURATED])
def test_masked_and_saturated_pixels_do_not_count(bit):
    flags = np.full(SHAPE, bit, np.uint8)
    assert lost_light(stars(), np.zeros(SHAPE, np.float32), flags).warnings() == []


def test_stars_among_the_artefacts_are_counted():
    light = stars(sigma=0.6)
    flags = np.where(light > 20, np.uint8(ARTEFACT), np.uint8(0))
    warning = lost_light(light, np.zeros(SHAPE, np.float32), flags).warnings()[-1]
    assert "bright peaks are in the noise as artefacts" in warning


def test_hot_pixels_are_no_such_peaks():
    light = np.zeros(SHAPE, np.float32)
    light[5::20, 7::20] = 500
    flags = np.where(light > 20, np.uint8(ARTEFACT), np.uint8(0))
    warnings = lost_light(light, np.zeros(SHAPE, np.float32), flags).warnings()
    assert not any("peaks" in warning for warning in warnings)


def test_sharp_stars_are_reported_by_the_command(tmp_path):
    rng = np.random.default_rng(4)
    places = np.mgrid[25:280:50, 25:280:50].reshape(2, -1) + rng.uniform(-0.4, 0.4, (2, 36))
    light = gaussian_stars((300, 300), *places, 3000, 0.42)
    fits.writeto(tmp_path / "sharp.fits", flat_sky((300, 300), 1000, 20) + light.astype("f4"))
    command = [sys.executable, "-m", "bgrem", "-f", tmp_path / "sharp.fits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "% of the light above 5 rms is in the noise" in done.stderr
    assert "stars sharper than the model knows" in done.stderr
    header = fits.getheader(tmp_path / "BGRem_sharp.fits")
    assert header["BGR_LOST"] > 0.5
    assert header["BGR_WARN"] >= 2
    assert "of the light above 5 rms is in the" in str(header["HISTORY"])


def test_trailed_stars_are_reported():
    y, x = np.indices((400, 400))
    radius, angle = np.hypot(x - 200, y - 200), np.arctan2(y - 200, x - 200)
    light = np.zeros((400, 400))
    for number, r in enumerate(range(30, 190, 20)):
        arc = np.abs((angle - number + np.pi) % (2 * np.pi) - np.pi) < 0.7
        light += np.where(arc, 400 * np.exp(-((radius - r) ** 2) / 4), 0)
    parts = separate((light + flat_sky((400, 400), 500, 8)).astype(np.float32), maps=())
    kept = parts.sources[light > 40].sum() / light[light > 40].sum()
    assert parts.provenance.lost_light == pytest.approx(1 - kept, abs=0.1)
    warned = any("of the light above 5 rms" in line for line in parts.provenance.warnings)
    assert warned == (parts.provenance.lost_light > 0.1)
