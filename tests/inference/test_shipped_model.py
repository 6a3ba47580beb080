"""The model in the package, on skies where flux errors matter most."""

import numpy as np
import pytest

from bgrem.background import separate
from bgrem.inference.model import load_model
from bgrem.network.significance_constants import SignificanceConstants
from bgrem.simulate import Scene, draw

CALM = {
    "galaxies": 0.0, "large_galaxies": 0.0, "discs": 0.0, "satellite_trails": 0.0, "ghosts": 0.0,
    "cosmic_rays": 0.0, "hot_pixels": 0.0, "warm_pixels": 0.0, "bad_columns": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return load_model("optical")


def test_card_holds_the_constants(model):
    assert SignificanceConstants.from_json(model.engine.metadata["significance"]) == (
        model.card.significance
    )
    assert float(model.engine.metadata["memory_per_pixel"]) == model.card.memory_per_pixel


def drawn(seed=1, size=512, **fields):
    return draw(Scene(shape=(size, size), **fields), np.random.default_rng([20261122, seed]))


def aperture_sums(image, sky, radius):
    """Sums over discs around the stars of S/N above 100 inside the frame."""
    truth = sky.truth[sky.truth["snr"] > 100]
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    inside = (truth["x"] > 12) & (truth["x"] < image.shape[1] - 12)
    inside &= (truth["y"] > 12) & (truth["y"] < image.shape[0] - 12)
    discs = [np.hypot(x - s["x"], y - s["y"]) <= radius for s in truth[inside]]
    return np.array([image[disc].sum() for disc in discs])


@pytest.mark.parametrize(
    ("fwhm", "stars"), [(1.2, 1e3), (1.2, 2e4), (1.5, 2e4), (2.5, 1e3), (2.5, 2e4), (6.0, 1e3)]
)
def test_bright_stars_keep_their_light(model, fwhm, stars):
    sky = drawn(size=384, fwhm=fwhm, stars=stars, star_slope=0.6, **CALM)
    found = separate(sky.data, model=model).sources
    ratio = aperture_sums(found, sky, 1.5 * fwhm) / aperture_sums(sky.sources, sky, 1.5 * fwhm)
    assert ratio.size > 10
    assert np.median(ratio) == pytest.approx(1, abs=0.02)
    assert (ratio < 0.8).mean() < 0.05


def test_bright_stars_of_undersampled_crowds_are_sources(model):
    fields = {"fwhm": 1.4, "beta": 2.3, "aureole": 0.03, "ellipticity": 0.3, "sky": 100.0}
    sky = drawn(size=256, stars=5e4, star_slope=0.4, **fields, **CALM)
    found = separate(sky.data, model=model).sources
    ratio = aperture_sums(found, sky, 2.0) / aperture_sums(sky.sources, sky, 2.0)
    assert ratio.size > 300
    assert np.quantile(ratio, 0.05) > 0.85


def test_overscan_has_no_sources(model):
    sky = drawn(seed=2, fwhm=2.5, stars=3000.0, **CALM)
    data = sky.data.copy()
    data[:, :24] = data[:, :24].min() - 30 * np.median(sky.rms)
    parts = separate(data, model=model)
    assert np.abs(parts.sources[:, 2:22]).max() < 3 * np.median(sky.rms)
    assert np.median(parts.rms) == pytest.approx(np.median(sky.rms), rel=0.1)


def test_cosmic_rays_and_hot_pixels_are_noise(model):
    fields = {**CALM, "stars": 0.0, "cosmic_rays": 300.0, "hot_pixels": 300.0}
    sky = drawn(seed=3, fwhm=4.0, **fields)
    hit = sky.noise > 20 * np.median(sky.rms)
    assert hit.sum() > 100
    parts = separate(sky.data, model=model)
    assert parts.sources[hit].sum() < 0.05 * sky.noise[hit].sum()


def test_empty_sky_stays_empty(model):
    sky = drawn(seed=4, size=1024, fwhm=3.0, stars=0.0, **CALM)
    parts = separate(sky.data, model=model)
    assert np.abs(parts.sources).max() < 4 * np.median(sky.rms)
    assert parts.sources.std() < 0.1 * np.median(sky.rms)
