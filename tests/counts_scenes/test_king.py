"""Point-spread functions of counts maps, and the light of sources behind them."""

import numpy as np
import pytest

from bgrem.counts.counts_input import area_fwhm
from bgrem.counts_scenes.king import (
    KingProfile,
    blurred_light,
    off_axis_light,
    point_light,
    psf_image,
    smoothed_map,
)

PROFILES = [
    KingProfile(fwhm=1.0, index=100.0),
    KingProfile(fwhm=3.0, index=1.5),
    KingProfile(fwhm=6.0, index=2.5, tail=0.3, tail_width=2.0),
    KingProfile(fwhm=4.0, index=5.0, ellipticity=0.4, angle=0.7),
]


def moments(light, x, y):
    """Second moments (xx, yy, xy) about a place."""
    v, u = np.mgrid[: light.shape[0], : light.shape[1]]
    u, v = u - x, v - y
    return [float((light * a * b).sum() / light.sum()) for a, b in ((u, u), (v, v), (u, v))]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_has_integral_one(profile):
    """On an ellipse-free grid of rings: the integral to a large radius, and the rest of the law."""
    step = 0.2
    offsets = np.arange(-150, 150, step, dtype=np.float32)
    whole = profile(offsets[None], offsets[:, None]).sum() * step**2
    rest = 0.0
    parts = [(1 - profile.tail, profile.fwhm, profile.index)]
    if profile.tail:
        parts.append((profile.tail, profile.fwhm * profile.tail_width, profile.tail_index))
    for share, fwhm, index in parts:
        width2 = 0.25 * fwhm**2 / (2 ** (1 / index) - 1)
        rest += share * (1 + 150**2 / width2) ** (1 - index)
    # The square is larger than its circle.
    assert 1 - rest - 1e-4 <= whole <= 1 + 1e-4


@pytest.mark.parametrize("profile", PROFILES)
def test_half_of_the_peak_is_at_half_the_width(profile):
    if profile.tail:
        profile = KingProfile(fwhm=profile.fwhm, index=profile.index)
    ratio = np.sqrt(1 - profile.ellipticity)  # r^2 = x^2 (b / a) along the long axis
    along = 0.5 * profile.fwhm / ratio
    x, y = along * np.cos(profile.angle), along * np.sin(profile.angle)
    assert profile(x, y) == pytest.approx(0.5 * profile(0.0, 0.0))


def test_a_king_profile_of_a_large_index_is_a_gaussian():
    sigma = 3.0 / 2.3548
    r = np.linspace(0, 5, 50)
    gaussian = np.exp(-0.5 * (r / sigma) ** 2) / (2 * np.pi * sigma**2)
    assert np.allclose(
        KingProfile(fwhm=3.0, index=100.0)(r, 0.0), gaussian, atol=0.01 * gaussian[0]
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_the_image_of_a_psf(profile):
    image = psf_image(profile)
    assert image.dtype == np.float32
    assert image.shape == (31, 31)
    assert image.sum() == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(image.argmax(), image.shape) == (15, 15)
    assert np.allclose(image, image[::-1, ::-1], atol=1e-7)


def test_the_equivalent_width_of_a_gaussian_is_its_own():
    fwhm = area_fwhm(psf_image(KingProfile(fwhm=5.0, index=100.0)))
    assert fwhm == pytest.approx(5.0, rel=0.02)
    tails = area_fwhm(psf_image(KingProfile(fwhm=5.0, index=1.5)))
    assert tails > 1.2 * fwhm


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("place", [(24.0, 24.0), (20.3, 26.8)])
def test_light_of_points_is_kept_and_has_its_place(profile, place):
    x, y = place
    light = point_light((49, 49), np.array([x]), np.array([y]), np.array([1000.0]), profile)
    assert light.dtype == np.float32
    assert light.sum() <= 1000 * (1 + 1e-5)
    small = KingProfile(
        **{**vars(profile), "index": 100.0, "tail": 0.0, "fwhm": min(profile.fwhm, 3)}
    )
    light = point_light((49, 49), np.array([x]), np.array([y]), np.array([1000.0]), small)
    assert light.sum() == pytest.approx(1000, rel=1e-5)
    v, u = np.mgrid[:49, :49]
    assert (light * u).sum() / light.sum() == pytest.approx(x, abs=0.01)
    assert (light * v).sum() / light.sum() == pytest.approx(y, abs=0.01)


@pytest.mark.parametrize("profile", PROFILES)
def test_light_of_a_point_is_the_image_of_the_psf(profile):
    """Within 5 % of the peak and of the width: the light is put on pixels of 1/2 to 1/4 of the size."""
    light = point_light((31, 31), np.array([15.0]), np.array([15.0]), np.array([1.0]), profile)
    image = psf_image(profile)
    light /= light.sum()
    assert np.abs(light - image).max() < 0.05 * image.max()
    assert 1 <= area_fwhm(light) / area_fwhm(image) < 1.05


def test_light_of_sources_around_a_map_shines_into_it():
    profile = KingProfile(fwhm=4.0, index=2.0)
    light = point_light((40, 40), np.array([-5.0]), np.array([20.0]), np.array([1e4]), profile)
    assert light[20, 0] > 10
    assert light[20, 0] > light[20, 20]


def test_light_adds_up():
    rng = np.random.default_rng(1)
    x, y, flux = rng.uniform(-10, 60, 30), rng.uniform(-10, 50, 30), rng.uniform(1, 100, 30)
    together = point_light((48, 56), x, y, flux, PROFILES[2])
    alone = sum(
        point_light((48, 56), x[i : i + 1], y[i : i + 1], flux[i : i + 1], PROFILES[2])
        for i in range(30)
    )
    assert np.allclose(together, alone, atol=1e-3)


def test_off_axis_widths_grow_with_the_square_of_the_distance():
    profile = KingProfile(fwhm=2.0, index=100.0)
    sides, growth = (201, 201), 3.0

    def variance(x, y):
        light = off_axis_light(
            sides, np.array([x]), np.array([y]), np.array([1.0]), profile, growth
        )
        assert light.sum() == pytest.approx(1, rel=1e-4)
        xx, yy, _ = moments(light, x, y)
        return 0.5 * (xx + yy)

    centre = variance(100.0, 100.0)
    # Half of the way to a corner: 1 + 3 / 4 times the width.
    assert variance(50.0, 50.0) / centre == pytest.approx(1.75**2, rel=0.12)
    flat = off_axis_light(sides, np.array([50.0]), np.array([50.0]), np.array([1.0]), profile, 0.0)
    assert 0.5 * sum(moments(flat, 50.0, 50.0)[:2]) == pytest.approx(centre, rel=0.02)


def test_an_elongated_psf_is_long_along_its_angle():
    profile = KingProfile(fwhm=4.0, index=100.0, ellipticity=0.5, angle=np.pi / 4)
    light = point_light((61, 61), np.array([30.0]), np.array([30.0]), np.array([1.0]), profile)
    xx, yy, xy = moments(light, 30.0, 30.0)
    assert xx == pytest.approx(yy, rel=1e-3)
    # Axes a, b with b / a = 1 / 2: (a^2 - b^2) / (a^2 + b^2) = 0.6, less the pixels.
    assert xy / xx == pytest.approx(0.6, abs=0.06)


def test_blurred_images_lose_light_at_the_edges_only():
    images = np.zeros((2, 40, 50), np.float32)
    images[:, 20, 25] = 100
    psf = np.stack([psf_image(profile) for profile in PROFILES[:2]])
    blurred = blurred_light(images, psf)
    assert np.allclose(blurred.sum((1, 2)), 100, rtol=1e-3)
    assert np.allclose(blurred[0, 5:36, 10:41], 100 * psf[0], atol=1e-3)
    corner = np.zeros((1, 40, 50), np.float32)
    corner[0, 0, 0] = 100
    assert 20 < blurred_light(corner, psf[1:]).sum() < 50
    assert not blurred_light(np.zeros_like(images), psf).any()


def test_a_smoothed_map_keeps_its_mean_and_constants():
    rng = np.random.default_rng(2)
    image = rng.uniform(0, 1, (40, 60))
    smooth = smoothed_map(image, 8.0)
    assert smooth.mean() == pytest.approx(image.mean(), rel=1e-6)
    assert smooth.std() < 0.2 * image.std()
    assert np.allclose(smoothed_map(np.full((20, 30), 2.0), 5.0), 2.0)
