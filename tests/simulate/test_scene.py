"""Every ingredient of a scene is there, in the right part and of the right strength."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from scipy.signal import fftconvolve

from bgrem.simulate import Scene, detector, draw, draw_psf, random_scene, skies
from bgrem.simulate.galaxies import SAMPLING, draw_extended, draw_galaxies
from bgrem.simulate.optics import PHASES
from bgrem.simulate.scene import DEFECT_BIT, EXTENDED, FULL_WELL_BIT, GALAXY, GAP_BIT, STAR

# Nothing but photons of a flat sky; each test turns one thing on.
NOTHING = {
    field.name: 0.0
    for field in dataclasses.fields(Scene)
    if field.name
    in {
        "ellipticity", "trail", "coma", "tail", "aureole", "spikes", "stars", "clustered", "galaxies",
        "large_galaxies", "discs", "nebula", "read_noise", "bias", "quantisation", "correlation",
        "rms_variation", "tail_fraction", "hot_pixels", "warm_pixels", "dead_pixels", "holes",
        "dark_fraction", "bad_columns", "row_noise", "column_noise", "odd_even", "mosaic",
        "amplifier_step", "cosmic_rays", "full_well", "gaps", "gradient", "vignetting", "flat_residual",
        "smooth_sky", "fringes", "ghosts", "cirrus", "mottle", "bands", "glow",
        "satellite_trails",
    }
}  # fmt: skip
SIZE = 256


def scene_with(size=SIZE, **fields):
    return Scene(**{"shape": (size, size), "sky": 1e4, "gain": 1.0, **NOTHING, **fields})


def sky_with(seed=0, size=SIZE, **fields):
    return draw(scene_with(size, **fields), np.random.default_rng(seed))


def noise_with(seed=0, size=SIZE, **fields):
    """The noise in units of the sky's rms, float64."""
    sky = sky_with(seed, size, **fields)
    return sky.noise.astype(np.float64) * sky.scene.gain / sky.scene.sky_rms


def rng_of(seed=0):
    return np.random.default_rng(seed)


def assert_adds_up(sky):
    parts = [part.astype(np.float64) for part in (sky.sources, sky.background, sky.noise, sky.data)]
    size = sum(np.abs(part) for part in parts)
    assert (np.abs(parts[0] + parts[1] + parts[2] - parts[3]) <= 1e-6 * size).all()


# ---- the whole --------------------------------------------------------------------------


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_parts_add_up_on_any_sky(seed):
    rng = rng_of(seed)
    sky = draw(random_scene(rng, shape=(80, 96)), rng)
    assert_adds_up(sky)
    for plane in (sky.data, sky.sources, sky.background, sky.noise, sky.rms):
        assert plane.dtype == np.float32
        assert plane.shape == (80, 96)
        assert np.isfinite(plane).all()
    assert (sky.rms > 0).all()
    assert (sky.truth["flux"] > 0).all()


def test_the_default_is_a_meerlicht_exposure():
    scene = Scene()
    assert (scene.fwhm * 0.56, scene.amplifier_size) == (pytest.approx(2.52), (5280, 1320))
    sky = draw(scene, rng_of())
    assert_adds_up(sky)
    assert len(sky.truth) > 50


def test_a_seed_gives_the_same_scene():
    first, again, other = (draw(Scene(), rng_of(seed)) for seed in (3, 3, 4))
    for name in ("data", "sources", "background", "noise", "mask", "truth"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.data, other.data)


def test_random_scenes_are_drawn_from_their_generator_alone():
    assert random_scene(rng_of(5)) == random_scene(rng_of(5))
    assert random_scene(rng_of(5)) != random_scene(rng_of(6))


def test_every_ingredient_is_sometimes_absent_and_sometimes_there():
    scenes = [random_scene(rng_of(seed)) for seed in range(600)]
    for name in sorted(set(NOTHING) - {"bias"}):
        values = np.array([getattr(scene, name) for scene in scenes])
        assert (values == 0).any() or name in ("ellipticity", "read_noise"), name
        assert (values != 0).any(), name


@pytest.mark.parametrize(
    "fields",
    [
        {"stars": -1.0}, {"fwhm": np.nan}, {"gain": 0.0}, {"shape": (4, 200)}, {"clustered": 1.5},
        {"aureole": 0.6, "spikes": 0.5}, {"sky": np.inf},
    ],
)  # fmt: skip
def test_impossible_scenes_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Scene(**fields)


# ---- the point-spread function ------------------------------------------------------------


def moments(image):
    """Centroid (x, y) and second moments (xx, yy, xy) about the image's middle, in pixels."""
    image = image.astype(np.float64)
    half = image.shape[0] // 2
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] - float(half)
    total = image.sum()
    mx, my = (image * x).sum() / total, (image * y).sum() / total
    second = [(image * u * v).sum() / total for u, v in ((x, x), (y, y), (x, y))]
    return mx, my, second[0] - mx**2, second[1] - my**2, second[2] - mx * my


def core_moments(psf):
    """Moments of the part above half the maximum, in pixels."""
    bright = np.where(psf.fine > 0.5 * psf.fine.max(), 1.0, 0.0)
    return np.array(moments(bright)) / np.array([PHASES] * 2 + [PHASES**2] * 3)


@pytest.mark.parametrize("fwhm", [2.0, 4.0, 8.0])
@pytest.mark.parametrize("beta", [2.2, 5.0])
def test_width_of_the_psf(fwhm, beta):
    psf = draw_psf(fwhm=fwhm, beta=beta)
    diameter = 2 * np.sqrt((psf.fine > 0.5 * psf.fine.max()).sum() / np.pi) / PHASES
    # A pixel's box has the variance 1/12, as a Gaussian of FWHM 0.68; cusps suffer more from it.
    assert diameter == pytest.approx(np.hypot(fwhm, 0.68), rel=0.06 if fwhm < 3 else 0.03)


@pytest.mark.parametrize("beta", [14.9, 23.5, 100.0])
@pytest.mark.parametrize("diffraction", [0.0, 0.7])
def test_profiles_without_wings_are_drawn(beta, diffraction):
    psf = draw_psf(fwhm=1.05, beta=beta, diffraction=diffraction)
    assert np.isfinite(psf.image).all()
    assert psf.image.sum() == pytest.approx(1.0, abs=0.03)  # rings go beyond it


def test_wings_follow_beta():
    wide, narrow = (draw_psf(fwhm=4.0, beta=beta) for beta in (2.5, 4.5))
    assert 1 - wide.image.sum() > 3 * (1 - narrow.image.sum())


@pytest.mark.parametrize("ellipticity", [0.15, 0.4])
@pytest.mark.parametrize("angle", [0.0, 0.9, 2.2])
def test_ellipticity_of_the_psf(ellipticity, angle):
    psf = draw_psf(fwhm=6.0, beta=3.0, ellipticity=ellipticity, angle=angle)
    _, _, xx, yy, xy = core_moments(psf)
    split = np.hypot(xx - yy, 2 * xy)
    ratio = np.sqrt((xx + yy - split) / (xx + yy + split))
    assert 1 - ratio == pytest.approx(ellipticity, abs=0.025)
    direction = 0.5 * np.arctan2(2 * xy, xx - yy)
    assert np.sin(direction - angle) == pytest.approx(0, abs=0.05)


def test_trail_draws_stars_out():
    still, moved = (core_moments(draw_psf(fwhm=3.0, beta=3.0, trail=t)) for t in (0.0, 8.0))
    assert moved[2] > 3 * still[2]
    assert moved[3] < 1.5 * still[3]


def test_coma_and_tail_put_light_to_one_side():
    for name in ("coma", "tail"):
        psf = draw_psf(fwhm=3.0, beta=4.0, angle=0.0, **{name: 0.3})
        mx, my, *_ = moments(psf.image)
        assert np.hypot(mx, my) > 0.2, name
        assert psf.image.argmax() == pytest.approx(psf.image.size // 2, abs=psf.image.shape[1] + 1)


def test_aureole_and_spikes_are_in_the_wings():
    plain, aureole, spikes = (
        draw_psf(fwhm=3.0, beta=4.5, spike_angle=0.0, **extra)
        for extra in ({}, {"aureole": 0.05}, {"spikes": 0.05})
    )
    assert aureole.wings.sum() == pytest.approx(plain.wings.sum() + 0.05, abs=0.015)
    assert spikes.wings.sum() == pytest.approx(plain.wings.sum() + 0.05, abs=0.015)
    middle = spikes.wings.shape[0] // 2
    assert spikes.wings[middle, middle + 60] > 20 * spikes.wings[middle + 42, middle + 42]
    assert aureole.wings[middle, middle + 60] < 3 * aureole.wings[middle + 42, middle + 42]


@pytest.mark.parametrize("fwhm", [1.2, 2.5, 6.0])
def test_stars_keep_flux_and_place_at_every_phase(fwhm):
    psf = draw_psf(fwhm=fwhm, beta=3.0, aureole=0.02, spikes=0.01)
    for phase_y in range(PHASES):
        for phase_x in range(PHASES):
            image = np.zeros((401, 401), np.float32)
            x = np.array([200 * PHASES + phase_x - 2])
            y = np.array([200 * PHASES + phase_y - 2])
            psf.place(image, x, y, np.array([1000.0]))
            assert image.sum(dtype=np.float64) == pytest.approx(1000.0, rel=5e-3)
            core = image[190:211, 190:211] * (image[190:211, 190:211] > 0.05 * image.max())
            mx, my, *_ = moments(core)
            assert (mx, my) == pytest.approx(((phase_x - 2) / 5, (phase_y - 2) / 5), abs=0.06)


def test_stars_across_the_border_are_cut():
    psf = draw_psf(fwhm=3.0, beta=3.0)
    image = np.zeros((64, 64), np.float32)
    psf.place(image, np.array([0]), np.array([31 * PHASES]), np.array([1.0]))
    assert 0.45 < image.sum() < 0.75  # half of it, and the column through its middle
    psf.place(image, np.array([-400 * PHASES]), np.array([0]), np.array([1.0]))
    assert image.sum() < 0.75


# ---- stars and galaxies --------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.5, 1.2])
def test_counts_of_stars(slope):
    truth = sky_with(stars=2e4, star_slope=slope, brightest=1e4, size=512).truth
    assert (truth["kind"] == STAR).all()
    snr = truth["snr"][truth["snr"] >= 1].astype(np.float64)
    assert len(snr) == pytest.approx(2e4 * 512**2 / 1e6, rel=0.06)
    # The maximum-likelihood slope of a power law (Crawford et al. 1970, ApJ 162, 405).
    assert 1 / np.log(snr).mean() == pytest.approx(slope, rel=0.06)
    assert snr.max() <= 1e4


def test_clustered_stars_crowd():
    truth = sky_with(stars=5e3, clustered=0.8, cluster_radius=15.0, size=512).truth
    counts = np.histogram2d(truth["y"], truth["x"], bins=8, range=[[0, 512]] * 2)[0]
    assert counts.max() > 10 * np.median(counts)


def test_galaxies_are_wider_than_stars():
    sky = sky_with(galaxies=2000.0, galaxy_radius=3.0, galaxy_scatter=0.2)
    assert (sky.truth["kind"] == GALAXY).all()
    assert np.median(sky.truth["half_light_radius"]) == pytest.approx(3.0, rel=0.15)


@pytest.mark.parametrize("fwhm", [1.2, 4.0])
def test_galaxies_have_unit_flux_and_their_place(fwhm):
    galaxies = draw_galaxies(draw_psf(fwhm=fwhm, beta=3.0), rng_of(1), count=6, median_radius=1.5)
    for j in range(SAMPLING):
        for i in range(SAMPLING):
            for stamp in galaxies.stamps[:, j, i]:
                assert stamp.sum() == pytest.approx(1.0, abs=0.02)
                core = np.where(stamp > 0.05 * stamp.max(), stamp, 0)
                mx, my, *_ = moments(core)
                assert (mx, my) == pytest.approx((i / SAMPLING, j / SAMPLING), abs=0.1)


def half_light_radius(image):
    """Of the isophote that holds half of the light: that of the circle of equal area."""
    values = np.sort(image, axis=None)[::-1].astype(np.float64)
    return np.sqrt(np.searchsorted(np.cumsum(values), 0.5 * values.sum()) / np.pi)


@pytest.mark.parametrize("radius", [12.0, 40.0])
def test_large_galaxies_have_their_radius_and_unit_flux(radius):
    stamp = draw_extended(
        draw_psf(fwhm=1.5, beta=4.0), rng_of(2), radius=radius, index=1.0, ratio=0.6
    )
    assert stamp.sum() == pytest.approx(1.0, rel=1e-4)
    assert half_light_radius(stamp) == pytest.approx(radius, rel=0.06)
    mx, my, *_ = moments(stamp)
    assert (mx, my) == pytest.approx((0, 0), abs=0.2)


def test_discs_are_seen_from_all_directions():
    psf, rng = draw_psf(fwhm=1.5, beta=4.0), rng_of(4)
    ratios = []
    for _ in range(40):
        stamp = draw_extended(psf, rng, radius=15.0, index=1.0)
        assert stamp.min() > -1e-6 and stamp.sum() == pytest.approx(1.0, rel=1e-4)
        _, _, xx, yy, xy = moments(stamp)
        small, large = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
        ratios.append(np.sqrt(small / large))
    assert min(ratios) < 0.15 and max(ratios) > 0.9
    assert 0.05 < np.mean(np.array(ratios) < 0.25) < 0.4


def test_texture_makes_arms_and_knots():
    psf = draw_psf(fwhm=1.5, beta=4.0)
    smooth, rough = (draw_extended(psf, rng_of(2), radius=30.0, texture=t) for t in (0.0, 0.6))
    assert np.abs(np.diff(rough)).sum() > 1.5 * np.abs(np.diff(smooth)).sum()


@pytest.mark.parametrize("name", ["large_galaxies", "discs"])
def test_extended_sources(name):
    sky = sky_with(seed=2, **{name: 60.0})
    assert (sky.truth["kind"] == EXTENDED).all()
    assert len(sky.truth) > 0
    assert (sky.truth["half_light_radius"] >= 8).all()
    surface = sky.truth["flux"] / (2 * np.pi * sky.truth["half_light_radius"] ** 2) / 100.0
    low, high = (1, 200) if name == "large_galaxies" else (0.15, 3)
    assert ((surface >= 0.99 * low) & (surface <= 1.01 * high)).all()
    assert sky.sources.sum() > 0


def test_nebula_leaves_empty_sky():
    sky = sky_with(nebula=10.0)
    assert (sky.sources == 0).mean() > 0.3
    assert sky.sources.max() > 5 * sky.scene.sky_rms
    assert len(sky.truth) == 0


def test_sources_sum_to_the_truth():
    # One star in the middle would do; many show that nothing is lost on the way either.
    sky = sky_with(seed=5, stars=150.0, star_slope=0.5, brightest=3e3, size=512, gain=3.0)
    inner = (np.abs(sky.truth["x"] - 256) < 200) & (np.abs(sky.truth["y"] - 256) < 200)
    total = sky.truth["flux"].sum()
    assert sky.sources.sum(dtype=np.float64) == pytest.approx(total, rel=0.08)
    assert sky.truth["flux"][inner].sum() < total


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0, -0.06])
@pytest.mark.parametrize("fwhm", [2.0, 5.0])
def test_snr_is_that_of_a_matched_filter(correlation, fwhm):
    """Flux over S/N of the truth is the scatter of the filter's flux on empty sky."""
    fields = {"correlation": correlation, "fwhm": fwhm, "read_noise": 30.0, "gain": 2.0}
    truth = sky_with(stars=3000.0, **fields).truth
    empty = sky_with(size=512, **fields)
    profile = empty.psf.image.astype(np.float64)
    filtered = fftconvolve(empty.noise.astype(np.float64), profile[::-1, ::-1], mode="valid")
    error = filtered.std() / (profile**2).sum()
    assert np.median(truth["flux"] / truth["snr"]) == pytest.approx(error, rel=0.06)


def test_snr_of_galaxies():
    truth = sky_with(galaxies=3000.0, fwhm=2.0, galaxy_radius=2.0).truth
    stars = sky_with(stars=3000.0, fwhm=2.0).truth
    # At equal S/N a galaxy must be brighter, for it covers more noise.
    assert np.median(truth["flux"] / truth["snr"]) > 1.3 * np.median(stars["flux"] / stars["snr"])


# ---- noise -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("sky", "read"), [(1e4, 0.0), (100.0, 20.0), (3.0, 0.0)])
def test_photon_and_read_noise(sky, read):
    drawn = sky_with(sky=sky, read_noise=read, gain=2.5, bias=77.0)
    assert drawn.noise.std() == pytest.approx(np.sqrt(sky + read**2) / 2.5, rel=0.02)
    assert drawn.noise.mean() == pytest.approx(0, abs=5 * float(drawn.noise.std()) / SIZE)
    assert drawn.rms.mean() == pytest.approx(drawn.noise.std(), rel=0.02)
    assert drawn.background.mean() == pytest.approx(sky / 2.5 + 77.0, rel=1e-5)


def test_few_photons_come_in_whole_numbers():
    sky = sky_with(sky=0.5)
    assert np.array_equal(sky.data, np.rint(sky.data))
    assert sky.data.min() == 0
    assert sky.data.var() == pytest.approx(0.5, rel=0.03)


def test_sources_bring_their_own_photon_noise():
    sky = sky_with(sky=100.0, nebula=500.0)
    bright = sky.sources > 1000
    assert bright.sum() > 1000
    expected = np.sqrt(sky.sources[bright] + 100.0)
    assert (sky.noise[bright] / expected).std() == pytest.approx(1.0, rel=0.05)


def autocorrelation(noise, axis, lag):
    near, far = np.take(noise, range(256 - lag), axis), np.take(noise, range(lag, 256), axis)
    return (near * far).mean() / noise.var()


@pytest.mark.parametrize("correlation", [0.3, 0.6, 1.2])
def test_correlated_noise(correlation):
    noise = noise_with(correlation=correlation, correlation_ratio=0.5)
    assert noise.std() == pytest.approx(1.0, rel=0.05)
    for axis, sigma in ((1, correlation), (0, 0.5 * correlation)):
        kernel = np.exp(-0.5 * (np.arange(-9, 10) / sigma) ** 2)
        expected = (kernel[1:] * kernel[:-1]).sum() / (kernel**2).sum()
        assert autocorrelation(noise, axis, 1) == pytest.approx(expected, abs=0.03)


def test_bilinear_resampling_joins_neighbours_only():
    noise = noise_with(shift_x=0.5, shift_y=0.2)
    assert noise.std() == pytest.approx(noise_with().std(), rel=0.03)
    for axis, shift in ((1, 0.5), (0, 0.2)):
        expected = shift * (1 - shift) / (shift**2 + (1 - shift) ** 2)
        assert autocorrelation(noise, axis, 1) == pytest.approx(expected, abs=0.03)
        assert autocorrelation(noise, axis, 2) == pytest.approx(0, abs=0.03)


def test_edge_strips_saw_no_light_or_less():
    sky = sky_with(edge_strips=4.0, read_noise=20.0, stars=2000.0)
    blind = (sky.mask & GAP_BIT) > 0
    assert 0 < blind.mean() < 0.8
    assert (sky.sources[blind] == 0).all()
    assert sky.noise[blind].std() > 10
    np.testing.assert_allclose(sky.sources + sky.background + sky.noise, sky.data, rtol=1e-5)


def test_undersampled_crowds_are_drawn():
    scenes = [random_scene(np.random.default_rng(i)) for i in range(300)]
    assert sum(s.fwhm < 2 and s.stars > 5e3 for s in scenes) > 6


def test_sharpened_noise_has_negative_correlation():
    noise = noise_with(correlation=-0.08)
    assert (noise[:, 1:] * noise[:, :-1]).mean() == pytest.approx(-2 * 0.08, abs=0.02)


def test_noise_varies_over_the_frame():
    sky = sky_with(seed=2, rms_variation=0.2)
    assert sky.rms.std() / sky.rms.mean() == pytest.approx(0.2, rel=0.3)
    assert (sky.noise / sky.rms).std() == pytest.approx(1.0, rel=0.02)


def test_heavy_tails():
    plain, heavy = noise_with(), noise_with(tail_fraction=0.02, tail_strength=4.0)
    assert (np.abs(plain) > 5).sum() == 0
    assert 0.002 < (np.abs(heavy) > 5).mean() < 0.02
    assert abs(np.median(heavy[np.abs(heavy) > 5])) < 12  # on both sides


def test_flat_residual_grows_with_the_light():
    noise = noise_with(flat_residual=0.02)  # 2 per cent of 1e4 electrons: two sky rms
    assert noise.std() == pytest.approx(np.hypot(1, 2), rel=0.02)


# ---- the detector ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "height"), [("hot_pixels", 60.0), ("warm_pixels", 6.0)])
def test_hot_and_warm_pixels(name, height):
    scene = scene_with(**{name: 2000.0})
    added, dead = detector.defects(scene, rng_of(1))
    hot = added[added > 0.3 * height]
    assert not dead.any()
    assert len(hot) == pytest.approx(2000 * SIZE**2 / 1e6, rel=0.3)
    assert np.median(hot) == pytest.approx(height, rel=0.35)
    sky = sky_with(**{name: 2000.0})
    assert (sky.sources == 0).all()
    assert (sky.mask & DEFECT_BIT > 0).sum() >= 0.7 * len(hot)


def test_holes_are_below_the_sky():
    added, _ = detector.defects(scene_with(hot_pixels=3000.0, holes=0.5), rng_of(1))
    assert 0.35 < (added < -2).sum() / (np.abs(added) > 2).sum() < 0.65
    added, _ = detector.defects(scene_with(hot_pixels=3000.0), rng_of(1))
    assert (added >= 0).all()


def test_dark_current_is_skewed():
    added, _ = detector.defects(scene_with(dark_fraction=0.1, dark_strength=2.0), rng_of(1))
    assert (added > 0).mean() == pytest.approx(0.1, rel=0.1)
    assert np.median(added[added > 0]) == pytest.approx(2.0, rel=0.1)
    assert (added >= 0).all()


def test_dead_pixels_see_no_light():
    sky = sky_with(dead_pixels=3000.0, stars=3000.0)
    dead = sky.data < 0.6 * 1e4
    assert dead.sum() == pytest.approx(3000 * SIZE**2 / 1e6, rel=0.25)
    assert (sky.sources[dead] == 0).all()
    assert (sky.mask[dead] & DEFECT_BIT > 0).all()


def test_bad_columns():
    noise = noise_with(seed=4, bad_columns=30.0)
    means = np.abs(np.median(noise, axis=0))
    assert 1 <= (means > 1).sum() <= 25
    assert np.abs(np.median(noise, axis=1)).max() < 0.5


@pytest.mark.parametrize("drift", [4.0, -4.0])
def test_a_drifting_shift_smooths_here_and_not_there(drift):
    white = np.random.default_rng(3).standard_normal((1000, 1000), dtype=np.float32)
    noise = detector.resampled(white, 0.0, shift=(0.0, 0.5), drift=drift)
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(1.0, rel=0.01)
    spread = noise.reshape(10, 100, 40, 25).std(axis=(1, 3))
    assert spread.max() > 1.12 and spread.min() < 0.9


def test_bands_are_several_columns_wide():
    added, _ = detector.defects(scene_with(512, bands=10.0), np.random.default_rng(2))
    hit = (added != 0).any(axis=0)
    starts = np.flatnonzero(np.diff(hit.astype(int)) == 1)
    assert starts.size
    assert hit.sum() >= 3 * starts.size


@pytest.mark.parametrize(("name", "axis"), [("row_noise", 1), ("column_noise", 0)])
def test_row_and_column_noise(name, axis):
    noise = noise_with(size=512, **{name: 0.4})
    assert 0.35 < noise.mean(axis=axis).std() < 0.65  # a wave may come on top
    assert noise.mean(axis=1 - axis).std() < 0.1


def test_odd_and_even_columns_differ():
    noise = noise_with(odd_even=0.4)
    assert noise[:, 1::2].mean() - noise[:, ::2].mean() == pytest.approx(0.4, abs=0.02)


def test_mosaic_has_four_levels():
    noise = noise_with(mosaic=1.0)
    levels = [noise[j::2, i::2].mean() for j in (0, 1) for i in (0, 1)]
    assert 0.2 < np.std(levels) < 3
    assert noise[::2, ::2].std() == pytest.approx(1.0, rel=0.03)


def test_amplifiers_have_steps():
    scene = scene_with(amplifier_step=2.0, amplifier_size=(100, 50))
    pattern = detector.amplifier_pattern(scene, rng_of(3))
    rows = (np.abs(np.diff(pattern, axis=0)).max(axis=1) > 0).sum()
    columns = (np.abs(np.diff(pattern, axis=1)).max(axis=0) > 0).sum()
    assert rows + columns > 2
    assert np.abs(np.diff(pattern, axis=1)).max() < 10
    assert len(np.unique(np.round(pattern, 3))) <= (rows + 1) * (columns + 1)


def test_cosmic_rays():
    density = 600.0
    scene = scene_with(cosmic_rays=density, charge_diffusion=0.0)
    charge = detector.cosmic_rays(scene, rng_of(1))
    hits = label(charge > 0, np.ones((3, 3)))[1]
    assert hits == pytest.approx(density * SIZE**2 / 1e6, rel=0.4)
    sky = sky_with(cosmic_rays=density)
    assert (sky.sources == 0).all()
    bright = sky.noise > 10 * sky.scene.sky_rms
    assert bright.sum() > 20
    assert (sky.mask[bright] & DEFECT_BIT > 0).all()


def test_charge_diffuses():
    sharp, soft = (
        detector.cosmic_rays(scene_with(cosmic_rays=300.0, charge_diffusion=d), rng_of(1))
        for d in (0.0, 0.6)
    )
    assert soft.max() < 0.8 * sharp.max()
    assert soft.sum() == pytest.approx(sharp.sum(), rel=0.05)


def test_satellites_leave_long_trails():
    sky = sky_with(seed=1, size=512, satellite_trails=20.0)
    trails = sky.mask & DEFECT_BIT > 0
    rows, columns = np.nonzero(trails)
    assert max(np.ptp(rows), np.ptp(columns)) > 400
    assert (sky.sources == 0).all()
    assert sky.noise[trails].mean() > 0.7 * sky.scene.sky_rms


@pytest.mark.parametrize("step", [0.01, 0.3, 1.5])
def test_quantisation(step):
    sky = sky_with(quantisation=step, gain=2.0, bias=100.0)
    levels = (sky.data.astype(np.float64) - 100.0) * 2.0 / (step * sky.scene.sky_rms)
    assert np.abs(levels - np.rint(levels)).max() < 0.02
    assert len(np.unique(sky.data)) < 12 / step
    assert_adds_up(sky)


def test_saturated_cores_keep_what_was_observed():
    fields = {"stars": 600.0, "star_slope": 0.3, "brightest": 1e5, "gain": 2.0, "bias": 50.0}
    sky = sky_with(seed=6, full_well=4e4, **fields)
    full = 4e4 / 2.0 + 50.0
    cores = sky.mask & FULL_WELL_BIT > 0
    assert cores.sum() > 10
    assert sky.data.max() == pytest.approx(full, rel=1e-6)
    clean = cores & (sky.mask & DEFECT_BIT == 0)
    assert np.allclose(sky.data[clean], full)
    assert np.allclose(sky.sources[clean] + sky.background[clean], full)
    assert np.allclose(sky.noise[clean], 0, atol=1e-2)
    assert sky_with(seed=6, **fields).data.max() > 2 * full
    assert_adds_up(sky)


def test_bleeding_conserves_charge_and_is_noise():
    electrons = np.full((200, 40), 100.0, np.float32)
    electrons[100:104, 20] = 5000.0
    for seed in range(20):  # some detectors do not bleed
        image, saturated, bled = detector.saturate(electrons, 1000.0, rng_of(seed))
        if bled.any():
            break
    assert image.max() == pytest.approx(1000.0)
    assert saturated.sum() == 4
    assert image.sum(dtype=np.float64) == pytest.approx(electrons.sum(dtype=np.float64), rel=1e-3)
    assert (np.nonzero(bled)[1] == 20).all()
    assert not (bled & saturated).any()
    skies_drawn = (sky_with(seed=k, stars=600.0, star_slope=0.3, full_well=2e4) for k in range(9))
    taken = next(sky for sky in skies_drawn if (sky.mask & DEFECT_BIT > 0).any())
    bled = taken.mask == DEFECT_BIT
    assert taken.noise[bled].mean() > 10 * taken.scene.sky_rms


def test_gaps_are_filled_and_masked():
    sky = sky_with(seed=2, gaps=30.0, stars=3000.0)
    gap = sky.mask & GAP_BIT > 0
    assert gap.any()
    assert not gap.all()
    assert np.ptp(sky.data[gap]) == 0
    assert (sky.sources[gap] == 0).all()
    assert_adds_up(sky)


# ---- the background --------------------------------------------------------------------------


def background_with(seed=0, size=512, **fields):
    """The background less its level, in units of the sky's rms, float64."""
    sky = sky_with(seed, size, **fields)
    assert (sky.sources == 0).all()
    assert (sky.noise.std() - sky.scene.sky_rms) < 0.2 * sky.scene.sky_rms
    return (sky.background.astype(np.float64) - 1e4) / sky.scene.sky_rms


def test_a_gradient_rises_over_1000_px():
    field = background_with(gradient=20.0)
    slopes = [np.diff(field, axis=axis).mean() * 1000 for axis in (0, 1)]
    assert np.hypot(*slopes) == pytest.approx(20.0, rel=0.01)


def test_smooth_sky_has_its_amplitude():
    field = background_with(smooth_sky=3.0)
    assert field.std() == pytest.approx(3.0, rel=0.02)
    assert np.abs(np.diff(field)).max() < 0.5


def test_fringes_have_their_amplitude_and_period():
    field = background_with(seed=1, fringes=2.0, fringe_period=25.0)
    assert field.std() == pytest.approx(2 / np.sqrt(2), rel=0.1)
    power = np.abs(np.fft.fft2(field)) ** 2
    power[0, 0] = 0
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    assert 1 / k.flat[power.argmax()] == pytest.approx(25.0, rel=0.4)


def test_ghosts_are_soft_rings():
    field = background_with(seed=1, ghosts=8.0, ghost_amplitude=3.0)
    assert field.max() > 2.0
    assert field.min() > -1e-2
    assert np.abs(np.diff(field)).max() < 2.0


def test_cirrus_has_the_spectrum_of_dust():
    field = background_with(cirrus=2.0)
    assert field.std() == pytest.approx(2.0, rel=0.02)
    texture = skies.texture_field((256, 256), rng_of(), smallest=0.5)
    power = np.abs(np.fft.rfft2(texture)) ** 2
    k = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None, :])
    low, high = (power[(k > edge) & (k < 1.3 * edge)].mean() for edge in (0.02, 0.1))
    assert np.log(low / high) / np.log(0.1 / 0.02) == pytest.approx(3.0, abs=0.7)


def test_mottle_is_narrower_than_a_mesh_box():
    field = background_with(size=512, mottle=0.5)
    assert field.std() == pytest.approx(0.5, rel=0.02)
    boxes = field.reshape(4, 128, 4, 128).mean(axis=(1, 3))
    assert boxes.std() < 0.25


def test_glow_lies_at_the_edges():
    field = background_with(glow=5.0)
    edges = [field[0].mean(), field[-1].mean(), field[:, 0].mean(), field[:, -1].mean()]
    assert max(edges) > 3.0
    assert np.median(field) < 2.5


def test_vignetting_darkens_sky_and_sources():
    sky = sky_with(seed=1, size=512, vignetting=0.3)
    relative = sky.background / 1e4
    assert relative.max() <= 1
    assert relative.min() == pytest.approx(0.7, abs=0.02)
    dimmed = sky_with(seed=1, size=512, vignetting=0.3, stars=3000.0, brightest=100.0).truth
    received = dimmed["flux"] / dimmed["snr"]
    assert received.min() / received.max() == pytest.approx(0.7, abs=0.05)
