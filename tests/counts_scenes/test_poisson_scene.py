"""Drawn counts maps: Poisson draws of a truth that is exact."""

import numpy as np
import pytest
from scipy import stats

from bgrem.counts_scenes.poisson_scene import (
    COUNTS_LIMITS,
    CountsScene,
    draw_counts,
    random_counts_scene,
)

PLAIN = {"exposure_tilt": 0.0, "extended": 0.0, "density": 0.0, "plane": 0.0, "cloud_contrast": 0.0}


def drawn(seed=1, **changes):
    return draw_counts(CountsScene(**changes), np.random.default_rng(seed))


# ---- the draw --------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.01, 0.1, 1.0, 30.0, 1000.0])
def test_counts_are_poisson_of_the_truth(level):
    """Randomised probability integral transform: uniform if, and only if, each count has its own distribution."""
    sky = drawn(shape=(160, 160), bands=2, level=level, density=30.0, vignetting=0.5, gaps=2)
    expected = (sky.sources.astype(np.float64) + sky.background).ravel()
    counts = sky.counts.ravel()
    seen = expected > 0
    below, at = stats.poisson.cdf(counts - 1, expected), stats.poisson.pmf(counts, expected)
    uniform = below + at * np.random.default_rng(2).random(counts.size)
    assert stats.kstest(uniform[seen], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("level", [0.01, 0.1, 1.0, 30.0, 1000.0])
def test_chi_square_of_counts_against_truth(level):
    """Pixels are added, from the faintest to the brightest, until 30 counts are expected."""
    sky = drawn(shape=(200, 200), level=level, density=20.0, extended=1.0)
    expected = (sky.sources.astype(np.float64) + sky.background).ravel()
    order = np.argsort(expected, kind="stable")
    group = (np.cumsum(expected[order]) / 30.0).astype(int)
    wanted = np.bincount(group, expected[order])
    got = np.bincount(group, sky.counts.ravel()[order])
    full = wanted > 20
    chi2 = ((got - wanted)[full] ** 2 / wanted[full]).sum()
    assert full.sum() > 10
    assert 1e-3 < stats.chi2.cdf(chi2, full.sum()) < 1 - 1e-3


def test_what_is_drawn_has_the_documented_form():
    sky = drawn(shape=(40, 56), bands=3)
    for name in ("counts", "sources", "background", "exposure", "template"):
        assert getattr(sky, name).shape == (3, 40, 56), name
    assert sky.counts.dtype == np.int32
    assert {sky.sources.dtype, sky.background.dtype, sky.exposure.dtype, sky.psf.dtype} == {
        np.dtype("f4")
    }
    assert sky.psf.shape == (3, 31, 31)
    assert np.allclose(sky.psf.sum((1, 2)), 1, atol=1e-5)
    assert sky.fwhm.shape == (3,)
    assert (sky.sources >= 0).all()
    assert (sky.background >= 0).all()


def test_the_same_seed_gives_the_same_map():
    one, two, other = (drawn(seed, shape=(64, 64), gaps=1, extended=2.0) for seed in (5, 5, 6))
    assert np.array_equal(one.counts, two.counts)
    assert np.array_equal(one.truth, two.truth)
    assert not np.array_equal(one.counts, other.counts)


def test_nothing_is_seen_without_exposure():
    sky = drawn(shape=(96, 96), level=50.0, bad_columns=4, pointings=1, density=50.0, extended=3.0)
    blind = sky.exposure == 0
    assert 0.02 < blind.mean() < 0.9
    for part in (sky.counts, sky.sources, sky.background):
        assert (part[blind] == 0).all()
    assert sky.exposure[~blind].mean() == pytest.approx(1, abs=1e-4)


# ---- sources ---------------------------------------------------------------------------


def test_the_light_of_a_source_is_what_the_truth_says():
    """Isolated sources well inside, with a compact PSF: sums in apertures of 8 pixels."""
    sky = drawn(
        shape=(300, 300), fwhm=2.5, king_index=100.0, tail=0.0, density=3.0, extended=0.0, exposure_tilt=0.5,
        vignetting=0.8, population="blazars", break_snr=10.0,
    )  # fmt: skip
    truth, checked = sky.truth, 0
    y, x = np.mgrid[:300, :300]
    for source in truth[truth["counts"] > 20]:
        others = np.hypot(truth["x"] - source["x"], truth["y"] - source["y"])
        edge = min(source["x"], source["y"], 299 - source["x"], 299 - source["y"])
        if edge < 12 or np.sort(others)[1] < 16:
            continue
        near = np.hypot(x - source["x"], y - source["y"]) <= 8
        assert sky.sources[0][near].sum() == pytest.approx(source["counts"], rel=0.01)
        checked += 1
    assert checked >= 5


def test_counts_of_extended_sources_are_what_the_map_receives():
    sky = drawn(7, shape=(128, 128), density=0.0, extended=3.0, gaps=3, vignetting=0.8, bands=3)
    assert (sky.truth["kind"] == 1).all()
    assert len(sky.truth) >= 2
    assert sky.truth["counts"].sum() == pytest.approx(sky.sources.sum(dtype=np.float64), rel=1e-4)


def test_an_extended_source_whose_centre_lies_in_a_gap_stays_in_the_truth():
    found = 0
    for seed in range(60):
        sky = drawn(seed, shape=(64, 64), density=0.0, extended=2.5, bad_columns=12)
        wide = sky.truth
        columns = np.clip(np.rint(wide["x"]).astype(int), 0, 63)
        found += int((sky.exposure[0, 0, columns] == 0).sum())
        assert wide["counts"].sum() == pytest.approx(sky.sources.sum(dtype=np.float64), rel=1e-4)
    assert found >= 3


def test_the_truth_states_the_expected_significance():
    """TS is linear in the counts; its mean over draws of a lone source is the square of the stated S/N."""
    for seed in range(40):
        sky = drawn(
            seed, **PLAIN | {"density": 0.6}, shape=(64, 64), level=0.5, tail=0.0, king_index=100.0,
            population="blazars", break_snr=10.0,
        )  # fmt: skip
        light = sky.sources[0].astype(np.float64)
        if len(sky.truth) != 1 or not 3 < sky.truth["snr"][0] < 15:
            continue
        if light.sum() == pytest.approx(sky.truth["counts"][0], rel=1e-3):
            break
    else:
        pytest.fail("no lone source")
    background = sky.background[0].astype(np.float64)
    draws = np.random.default_rng(3).poisson(light + background, (4000, 64, 64))
    ts = 2 * ((draws * np.log1p(light / background)).sum((1, 2)) - light.sum())
    assert ts.mean() == pytest.approx(sky.truth["snr"][0] ** 2, rel=0.02)


def test_density_is_that_of_sources_of_the_stated_snr():
    """Counted in the Gaussian limit, where both definitions of the S/N agree."""
    sky = drawn(
        3, **PLAIN | {"density": 20.0}, shape=(400, 400), level=300.0, tail=0.0, king_index=100.0,
        population="pulsars", brightest=1000.0,
    )  # fmt: skip
    area = 1 / (sky.psf[0].astype(np.float64) ** 2).sum()
    expected = 20.0 * 400 * 400 / (1000 * area)
    got = (sky.truth["snr"] >= 3).sum()
    assert abs(got - expected) < 4 * np.sqrt(expected) + 0.05 * expected


@pytest.mark.parametrize("population", ["hard blazars", "pulsars"])
def test_fluxes_of_a_map_follow_their_population(population):
    """Slope of dN/dS above the break, by maximum likelihood, within three standard errors."""
    sky = drawn(
        4, **PLAIN | {"density": 60.0}, shape=(512, 512), level=3.0, fwhm=1.5, tail=0.0,
        population=population, break_snr=1.0, brightest=1e5,
    )  # fmt: skip
    flux, least = sky.truth["counts"], 12.0
    bright = flux[flux > least]
    slope = 1 + len(bright) / np.log(bright / least).sum()
    wanted = {"hard blazars": 2.49, "pulsars": 2.0}[population]
    assert len(bright) > 300
    assert abs(slope - wanted) < 3 * (slope - 1) / np.sqrt(len(bright))


def test_the_psf_widens_off_the_axis():
    """The light of one place and seed reaches farther; the PSF that is given is that of the centre."""
    fields = PLAIN | {"density": 30.0}
    sharp, wide = (
        drawn(**fields, shape=(128, 128), fwhm=2.0, off_axis=grown) for grown in (0.0, 3.0)
    )
    assert np.array_equal(sharp.psf, wide.psf)
    assert np.array_equal(sharp.truth["x"], wide.truth["x"])
    corner, middle = np.s_[0, :30, :30], np.s_[0, 50:78, 50:78]

    def sharpness(sky, part):
        return (sky.sources[part].astype(np.float64) ** 2).sum() / sky.sources[part].sum() ** 2

    assert sharpness(wide, corner) < 0.6 * sharpness(sharp, corner)
    assert sharpness(wide, middle) > 0.6 * sharpness(sharp, middle)


# ---- background and template -----------------------------------------------------------


def test_bands_have_their_levels_and_widths():
    sky = drawn(
        **PLAIN, shape=(64, 64), bands=3, level=8.0, band_level=0.25, band_width=0.7, fwhm=5.0
    )
    assert np.allclose(sky.background.mean((1, 2)), [8, 2, 0.5], rtol=1e-4)
    assert (np.diff(sky.fwhm) < 0).all()
    assert sky.template[1] == pytest.approx(0.25 * sky.template[0], rel=1e-5)


def test_counts_of_a_cube_add_up():
    sky = drawn(**PLAIN, shape=(128, 128), bands=4, level=20.0)
    expected = sky.background.sum(dtype=np.float64)
    assert abs(sky.counts.sum() - expected) < 4 * np.sqrt(expected)


def test_the_instrumental_background_is_not_vignetted():
    fields = {"shape": (64, 64), "level": 2.0, "vignetting": 1.0, "isotropic": 0.0, "density": 0.0}
    detector = drawn(**fields, instrumental=1.0)
    seen = detector.exposure[0] > 0
    assert np.ptp(detector.background[0][seen]) < 1e-5
    sky = drawn(**fields | {"isotropic": 1.0}, instrumental=0.0)
    ratio = sky.background[0][seen] / sky.exposure[0][seen]
    assert np.ptp(ratio) < 1e-5
    assert np.ptp(sky.background[0]) > 0.5


def test_a_perfect_template_is_the_background_per_exposure():
    fields = {"shape": (80, 80), "density": 0.0, "vignetting": 0.5}

    def error(**changes):
        sky = drawn(2, **fields, **changes)
        ratio = sky.background[0] / sky.exposure[0] / sky.template[0]
        return ratio.std() / ratio.mean()

    assert error() < 1e-5
    assert error(template_tilt=0.5) > 0.05
    assert error(template_missing=1.0) > 0.02
    assert error(template_blur=25.0) > 0.02
    assert error(instrumental=0.6) > 0.02


def test_features_of_a_detector():
    fields = {
        "shape": (100, 100),
        "level": 5.0,
        "isotropic": 0.0,
        "instrumental": 1.0,
        "density": 0.0,
    }
    glow = drawn(**fields, edge_glow=2.0).background[0]
    assert glow[:2].mean() > 1.8 * glow[40:60, 40:60].mean()
    lines = drawn(**fields, bright_lines=3).background[0]
    assert lines.max() > 1.25 * np.median(lines)
    assert np.mean(lines > 1.1 * np.median(lines)) < 0.04


# ---- descriptions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (8, 64)}, "two sides of at least 16 pixels"),
        ({"shape": (64, 64, 2)}, "two sides of at least 16 pixels"),
        ({"level": -1.0}, "level is -1, outside 1e-05 to 100000"),
        ({"level": np.nan}, "level is nan, outside"),
        ({"plane": 1.5}, "plane is 1.5, outside 0 to 1"),
        ({"bands": 1.5}, "bands is 1.5, not a whole number"),
        ({"gaps": 101}, "gaps is 101, outside 0 to 100"),
        ({"population": "quasars"}, "population is 'quasars', none of blazars,"),
        ({"isotropic": 0.7, "instrumental": 0.7}, "together at most 1"),
    ],
)
def test_an_impossible_field_is_refused_in_one_sentence(changes, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")) as error:
        CountsScene(**changes)
    assert "\n" not in str(error.value)


def test_every_number_of_a_scene_has_limits():
    numbers = {
        name for name, value in vars(CountsScene()).items() if isinstance(value, (int, float))
    }
    assert numbers == set(COUNTS_LIMITS)


@pytest.mark.parametrize(
    "changes",
    [
        {"fwhm": 20.0, "tail": 0.5, "off_axis": 2.0},
        {"fwhm": 0.5, "bands": 2},
        {"density": 1000.0, "level": 1e-5},
        {"level": 1e5, "brightest": 1e6, "density": 5.0},
        {"isotropic": 0.0, "plane": 1.0, "plane_height": 1.0, "cloud_contrast": 2.0},
        {"pointings": 30, "gaps": 20, "bad_columns": 20},
        {"extended": 20.0, "largest_radius": 0.0},
    ],
)
def test_extreme_scenes_are_drawn(changes):
    sky = drawn(shape=(48, 64), **changes)
    expected = sky.sources.sum(dtype=np.float64) + sky.background.sum(dtype=np.float64)
    assert np.isfinite(expected)
    assert abs(sky.counts.sum() - expected) < 5 * np.sqrt(expected) + 1e-6 * expected + 1


def test_random_scenes_cover_the_sky():
    rng = np.random.default_rng(9)
    scenes = [random_counts_scene(rng, shape=(64, 96), bands=2) for _ in range(600)]
    values = {name: np.array([getattr(s, name) for s in scenes]) for name in COUNTS_LIMITS}
    assert {s.shape for s in scenes} == {(64, 96)}
    assert {s.bands for s in scenes} == {2}
    assert np.mean(values["density"] == 0) == pytest.approx(0.15, abs=0.05)
    assert values["density"].max() > 50
    assert values["level"].min() < 0.01
    assert values["level"].max() > 200
    assert (values["fwhm"] >= 1).all()
    assert (values["fwhm"] <= 6).all()
    for name in ("instrumental", "extended", "gaps", "pointings", "bad_columns", "edge_glow", "bright_lines",
                 "off_axis", "template_missing", "vignetting"):  # fmt: skip
        share = np.mean(values[name] > 0)
        assert 0.02 < share < 0.98, name
    assert not ((values["edge_glow"] > 0) & (values["instrumental"] == 0)).any()
