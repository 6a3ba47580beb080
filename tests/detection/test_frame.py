"""What the whole frame knows: seeing, noise correlation, quantisation, crowding."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from bgrem.detection.frame import FRAME_NAMES, HIGHEST_ENTRIES, LOWEST_ENTRIES, Frame, measure_frame
from bgrem.simulate import Scene, draw
from bgrem.train.parents import draw_parent, true_width

FLAT = {
    "galaxies": 0.0, "large_galaxies": 0.0, "discs": 0.0, "cosmic_rays": 0.0, "gradient": 0.0,
    "hot_pixels": 0.0, "warm_pixels": 0.0, "dead_pixels": 0.0, "bad_columns": 0.0, "ghosts": 0.0,
    "satellite_trails": 0.0, "amplifier_step": 0.0, "row_noise": 0.0, "column_noise": 0.0,
    "quantisation": 0.0, "full_well": 0.0, "rms_variation": 0.0, "smooth_sky": 0.0,
}  # fmt: skip


def normalised(seed=0, size=512, **fields):
    sky = draw(Scene(shape=(size, size), **{**FLAT, **fields}), np.random.default_rng([seed, size]))
    return sky, (sky.data - sky.background) / sky.rms


def noise(seed=0, shape=(300, 400)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("fwhm", [1.3, 1.8, 2.5, 3.5, 5.0, 8.0])
@pytest.mark.parametrize("beta", [2.5, 4.5])
def test_seeing_is_measured(fwhm, beta):
    sky, x = normalised(fwhm=fwhm, beta=beta, stars=600.0, star_slope=0.5, brightest=3e3)
    assert measure_frame(x).fwhm == pytest.approx(true_width(sky.psf), rel=0.06)


def test_seeing_is_measured_among_galaxies_and_defects():
    dirt = {"galaxies": 800.0, "cosmic_rays": 300.0, "hot_pixels": 300.0, "large_galaxies": 2.0}
    sky, x = normalised(fwhm=3.0, stars=1500.0, star_slope=0.6, **dirt)
    assert measure_frame(x).fwhm == pytest.approx(true_width(sky.psf), rel=0.06)


def test_defects_are_not_taken_for_stars():
    _, x = normalised(stars=0.0, hot_pixels=1000.0)
    assert np.isnan(measure_frame(x).fwhm)


def test_a_given_seeing_is_taken():
    assert measure_frame(noise(), fwhm=2.2).fwhm == 2.2


@pytest.mark.parametrize("fwhm", [1.0, 1.2, 1.5, 1.8])
@pytest.mark.parametrize("beta", [3.0, 100.0])
@pytest.mark.parametrize("density", [0.0, 1000.0])
def test_the_seeing_of_sharp_stars_among_defects(fwhm, beta, density):
    dirt = {"cosmic_rays": density, "hot_pixels": density}
    stars = {"stars": 1500.0, "star_slope": 0.5, "brightest": 3e3}
    sky, x = normalised(size=320, fwhm=fwhm, beta=beta, **stars, **dirt)
    assert measure_frame(x).fwhm == pytest.approx(true_width(sky.psf), rel=0.06)


@pytest.mark.parametrize("fwhm", [1.1, 1.5, 3.0])
def test_few_stars_are_enough(fwhm):
    sky, x = normalised(size=320, fwhm=fwhm, stars=300.0, star_slope=0.5, brightest=3e3)
    assert measure_frame(x).fwhm == pytest.approx(true_width(sky.psf), rel=0.1)


@pytest.mark.parametrize("fwhm", [5.0, 6.5, 8.0])
def test_the_seeing_of_faint_wide_stars(fwhm):
    """None of them has a pixel above 15 rms."""
    sky, x = normalised(fwhm=fwhm, stars=2000.0, star_slope=0.8, brightest=8.0 * fwhm)
    assert x.max() < 15
    frame = measure_frame(x)
    assert frame.fwhm == pytest.approx(true_width(sky.psf), rel=0.15)
    assert frame.fwhm_from == "faint stars"


@pytest.mark.parametrize("larger", [1.6, 2.0, 3.0])
@pytest.mark.parametrize("order", [1, 3])
def test_the_noise_of_a_resampled_image_gives_a_rough_width(larger, order):
    x = affine_transform(
        noise(), [1 / larger] * 2, offset=20.3, output_shape=(300, 400), order=order
    )
    frame = measure_frame(x / x.std())
    assert frame.fwhm_from == "noise" and np.isnan(frame.measured_fwhm)
    assert 1.5 * larger < frame.fwhm_or_typical == frame.fwhm < 4.0 * larger


def test_structure_is_not_taken_for_resampled_noise():
    """Noise plus something wider is correlated over more pixels than a kernel is."""
    x = noise() + 7 * gaussian_filter(noise(1), 3.0)
    frame = measure_frame(x / x.std())
    assert frame.correlation_x > 0.2 and frame.fwhm_from == "assumed"


def test_it_is_known_where_the_width_is_from():
    _, stars = normalised(fwhm=3.0, stars=600.0, star_slope=0.5, brightest=3e3)
    assert measure_frame(stars).fwhm_from == "stars"
    empty = measure_frame(noise())
    assert empty.fwhm_from == "assumed" and np.isnan(empty.measured_fwhm)
    assert empty.fwhm_or_typical == 3.0
    assert measure_frame(noise(), fwhm=2.2).fwhm_from == "given"


@pytest.mark.parametrize("sigma", [(0.0, 0.0), (0.0, 0.5), (0.7, 0.4)])
def test_correlation_of_the_noise(sigma):
    x = gaussian_filter(noise(), sigma)
    x /= x.std()
    frame = measure_frame(x)
    for axis, value in ((1, frame.correlation_x), (0, frame.correlation_y)):
        near, far = np.take(x, range(299), axis), np.take(x, range(1, 300), axis)
        # Limited to 2.5 sigma, which takes a few per cent off.
        assert value == pytest.approx(0.95 * (near * far).mean(), abs=0.03)


def test_stars_do_not_count_as_correlation():
    _, x = normalised(stars=300.0)
    assert abs(measure_frame(x).correlation_x) < 0.06


def test_fractions_and_crowding():
    x = np.zeros((400, 500), np.float32) + 0.1 * noise(2, (400, 500))
    x[10::40, 10::50] = 30.0
    x[30::40, 30::50] = -20.0
    frame = measure_frame(x)
    assert frame.bright_fraction == pytest.approx(100 / 200_000)
    assert frame.faint_fraction == pytest.approx(100 / 200_000)
    assert frame.crowding == pytest.approx(500.0)


def test_masked_and_bad_pixels_do_not_count():
    x, mask = noise(), np.zeros((300, 400), bool)
    plain = measure_frame(x)
    x[:50], mask[:50] = 1e6, True
    x[60:70] = np.nan
    frame = measure_frame(x, mask)
    assert frame.bright_fraction == pytest.approx(plain.bright_fraction, abs=1e-4)
    assert frame.correlation_y == pytest.approx(plain.correlation_y, abs=0.01)


def test_large_frames_are_sampled():
    class Counted:
        shape = (4000, 3000)
        seen = 0

        def __getitem__(self, place):
            self.seen += 512 * 512
            return noise(3, (512, 512))

    x = Counted()
    measure_frame(x)
    assert 1e6 < x.seen < 3e6


def test_stars_that_a_reprojection_sampled_are_no_defects():
    rng = np.random.default_rng(4)
    x = noise(4, (600, 600))
    rows, columns = np.indices((13, 13)) - 6
    for y, c in rng.integers(10, 580, (150, 2)):
        dy, dx = rng.uniform(-0.5, 0.5, 2)
        spread = 0.5  # FWHM of 1.2 px, without the blur of a pixel
        star = np.exp(-0.5 * ((rows - dy) ** 2 + (columns - dx) ** 2) / spread**2)
        x[y - 6 : y + 7, c - 6 : c + 7] += (10 ** rng.uniform(1.5, 3)) * star
    assert 1.0 < measure_frame(x).fwhm < 1.35


def test_particles_alone_give_no_seeing():
    _, x = normalised(
        seed=3, fwhm=3.0, **{**FLAT, "cosmic_rays": 600.0, "hot_pixels": 600.0}, stars=0.0
    )
    assert np.isnan(measure_frame(x).fwhm)


def test_the_vector_is_finite_and_named():
    unknown = Frame(np.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    extreme = Frame(8.0, 0.95, 0.95, 1.5, 0.9, 0.9, 1e5)
    for frame in (unknown, extreme):
        vector = frame.vector()
        assert vector.dtype == np.float32
        assert vector.shape == (len(FRAME_NAMES),)
        assert np.abs(vector).max() < 5
    assert unknown.vector()[FRAME_NAMES.index("fwhm_known")] == 0
    assert extreme.vector()[FRAME_NAMES.index("log2_fwhm")] == pytest.approx(np.log2(8 / 3))


def test_the_vector_is_kept_in_range():
    mosaic = Frame(1.9, -0.6, -0.6, 0.0, 0.03, 0.0, 4000.0)
    assert (mosaic.vector() >= LOWEST_ENTRIES).all() and (mosaic.vector() <= HIGHEST_ENTRIES).all()
    assert (mosaic.entries() < LOWEST_ENTRIES).sum() == 2


def test_the_range_is_what_training_frames_reach():
    entries = np.array([draw_parent(5, i, size=256, box=128).frame.entries() for i in range(80)])
    # Where each step is a photon it may be many times the noise.
    step = FRAME_NAMES.index("quantisation")
    photons = entries[:, step] > HIGHEST_ENTRIES[step] + 0.1
    assert photons.mean() < 0.05
    entries = entries[~photons]
    low, high = np.quantile(entries, [0.02, 0.98], axis=0)
    assert (low >= LOWEST_ENTRIES - 0.1).all() and (high <= HIGHEST_ENTRIES + 0.1).all()
    # Nor is the range so wide that nothing would be told.
    assert (entries.min(axis=0) <= LOWEST_ENTRIES + 0.8).all()
    assert (entries.max(axis=0) >= HIGHEST_ENTRIES - 0.8).all()


def test_fine_quantisation_hardly_counts():
    frame = Frame(3.0, 0.0, 0.0, 0.0, 0.01, 0.0, 500.0)
    entry = FRAME_NAMES.index("quantisation")
    told = [
        replace(frame, quantisation=step).vector()[entry] - frame.vector()[entry]
        for step in (0.02, 0.1, 0.3, 1.0)
    ]
    assert told == sorted(told)
    assert told[0] < 0.01
    assert 0.03 < told[1] < 0.1 < told[2]
