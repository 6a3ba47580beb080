"""Sources drawn into a frame, where it is known what must be found."""

from dataclasses import replace

import numpy as np
import pytest
from skies import FWHM, RAW_GAIN, RAW_RMS, raw_frame_with_stars

from bgrem.detection.peaks import detection_table
from bgrem.detection.point_sources import detect_matched_filter
from bgrem.detection.psf import gaussian_psf, noise_pixels, psf_fwhm
from bgrem.evaluate import inject as injecting
from bgrem.evaluate.inject import evaluate_injected, known_places, truth_of, upside_down
from bgrem.evaluate.injection_report import FLUX_BIN, InjectionReport, summary_rows
from bgrem.evaluate.methods import MATCHED_FILTER, SEXTRACTOR
from bgrem.evaluate.target import GALAXY, SNR_LIMITS, STAR, inject, make_target, middle_of
from bgrem.io.header_facts import gain_of_header


@pytest.fixture(scope="module")
def target():
    return make_target(raw_frame_with_stars(), name="mine")


def test_a_target_knows_its_frame(target):
    assert target.fwhm == pytest.approx(psf_fwhm(gaussian_psf(FWHM)), rel=0.06)
    assert target.gain == pytest.approx(RAW_GAIN, rel=0.05) and target.gain_source == "sky's noise"
    expected = RAW_RMS * noise_pixels(gaussian_psf(FWHM)) ** 0.5
    assert np.median(target.noise) == pytest.approx(expected, rel=0.07)
    assert 0.03 < target.seen.mean() < 0.3


def test_correlated_noise_is_larger(target):
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((256, 256))
    smooth = (
        noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
    ) / 2
    white, wide = (make_target(plane, fwhm=FWHM) for plane in (noise, smooth))
    assert np.median(white.noise) == pytest.approx(
        noise_pixels(gaussian_psf(FWHM)) ** 0.5, rel=0.05
    )
    # What the filter's values themselves scatter by, directly.
    assert np.median(wide.noise) > 1.5 * np.median(white.noise)
    assert white.gain is None and white.gain_source == "unknown"


def test_steps_and_gains():
    data = np.rint(raw_frame_with_stars(2))
    assert make_target(data, fwhm=FWHM).step == 1.0
    assert make_target(data + 0.25, fwhm=FWHM).step == 0.0
    assert gain_of_header({"EGAIN": 1.5}) == (1.5, "EGAIN")
    assert gain_of_header({"GAIN": 0.0, "CCDGAIN": "?"}) == (None, "")


def test_what_cannot_be_a_target_is_refused():
    with pytest.raises(ValueError, match="no good pixel"):
        make_target(np.full((64, 64), np.nan))
    with pytest.raises(ValueError, match="too few to measure the PSF"):
        make_target(np.random.default_rng(0).standard_normal((128, 128)))


def test_few_stars_give_their_width_only():
    few = make_target(raw_frame_with_stars(7, size=160, stars=5), gain=RAW_GAIN)
    many = make_target(raw_frame_with_stars(7, size=256, stars=30), gain=RAW_GAIN)
    assert (few.psf_source, many.psf_source) == ("width of the stars", "stars")
    assert few.fwhm == pytest.approx(many.fwhm, rel=0.15)


def test_the_middle_of_a_large_frame():
    image = np.arange(20 * 7).reshape(20, 7)
    assert np.array_equal(middle_of(image, 10), image[5:15])
    assert middle_of(image, 50) is not None and middle_of(image, 50).shape == (20, 7)


def test_injected_sources_have_their_flux_and_noise(target):
    one = inject(target, np.random.default_rng(3))
    stars = one.sources[one.sources["kind"] == STAR]
    noise = target.noise[np.rint(stars["y"]).astype(int), np.rint(stars["x"]).astype(int)]
    assert stars["flux"] == pytest.approx(stars["snr"] * noise)
    assert one.light.sum() == pytest.approx(one.sources["flux"].sum(), rel=0.02)
    added = one.data.astype(np.float64) - target.data
    dark = one.light == 0
    assert not added[dark].any()
    # Photon noise of what was added.
    bright = one.light > 20
    pull = (added - one.light)[bright] / np.sqrt(one.light[bright] / target.gain)
    assert pull.std() == pytest.approx(1.0, abs=0.15)


def test_injected_sources_are_apart_and_mostly_faint(target):
    wide = replace(target, mask=target.mask.copy())
    draws = [inject(wide, np.random.default_rng([4, i])).sources for i in range(6)]
    snr = np.concatenate([sources["snr"] for sources in draws])
    low, middle, high = SNR_LIMITS
    assert snr.min() >= low and snr.max() <= high and 0.65 < np.mean(snr < middle) < 0.85
    for sources in draws:
        apart = np.hypot(*(sources[name][:, None] - sources[name] for name in ("x", "y")))
        assert apart[apart > 0].min() > 3.5 * target.fwhm
    inside = [target.usable[round(s["y"]), round(s["x"])] for s in draws[0]]
    assert all(inside)


def test_galaxies_need_more_flux_than_stars(target):
    pytest.importorskip("galsim")
    sources = inject(target, np.random.default_rng(5)).sources
    galaxies = sources[sources["kind"] == GALAXY]
    assert 3 < galaxies.size < sources.size / 2
    flux_of_one = np.median(target.noise)
    brighter = galaxies["flux"] / (galaxies["snr"] * flux_of_one)
    assert (brighter > 0.9).all()
    wide = galaxies["radius"] > target.fwhm
    assert np.median(brighter[wide]) > max(1.3, np.median(brighter[~wide]))


def test_whole_numbers_stay_whole():
    target = make_target(np.rint(raw_frame_with_stars(2)), fwhm=FWHM)
    one = inject(target, np.random.default_rng(0))
    assert np.array_equal(one.data, np.rint(one.data))
    assert (one.data - target.data).sum() == pytest.approx(one.light.sum(), rel=0.02)


def test_upside_down_is_the_mirror_of_the_noise(target):
    frame = upside_down(target)
    free = ~frame.mask
    assert 0.3 < free.mean() < 0.95
    below = (frame.data - (target.data - target.subtracted.residual))[free]
    assert below == pytest.approx(-target.subtracted.residual[free], abs=1e-3)
    # Nothing bright is left, on either side.
    assert np.abs(below).max() < 8 * RAW_RMS


def test_what_was_there_before_is_not_scored(target):
    one = inject(target, np.random.default_rng(6))
    nowhere = {"any": detection_table([], [], [])}
    free = truth_of(target, one.sources, known_places(target, nowhere))
    assert free.counted.any() and not free.counted.all()
    first = np.flatnonzero(free.counted)[0]
    listed = {"any": detection_table([free.x[first] + 1], [free.y[first]], [9.0])}
    again = truth_of(target, one.sources, known_places(target, listed))
    assert not again.counted[first]
    assert np.count_nonzero(again.counted) == np.count_nonzero(free.counted) - 1
    # Beside a source a detection is false; on it and far away it is not.
    column, row = round(free.x[first]), round(free.y[first])
    assert not free.blank[row, column]
    assert not free.blank[~injecting.beside(target, one.sources)].any()


def test_equal_lists_tell_the_better_method(target, monkeypatch):
    """A filter of the right width, one of a wrong width, and one that lists places at random, too."""
    rng = np.random.default_rng(7)

    def matched(frame, fwhm=FWHM):
        psf = gaussian_psf(fwhm)
        return detect_matched_filter(frame.data, psf, mask=frame.mask, cosmic_rays=False)

    def careless(frame):
        # The right filter, with twenty false detections anywhere, and sure of them.
        table = matched(frame)
        x, y = rng.uniform(20, 235, (2, 20))
        false = detection_table(x, y, np.full(20, 50.0))
        both = np.concatenate([table, false])
        return detection_table(both["x"], both["y"], both["score"])

    methods = {SEXTRACTOR: lambda frame: matched(frame, 3 * FWHM),
               "sextractor cleaned": matched, "careless": careless,
               MATCHED_FILTER: matched}  # fmt: skip
    monkeypatch.setattr(injecting, "comparison_methods", lambda **_: dict(methods))
    monkeypatch.setattr(injecting, "ENOUGH_SOURCES", 300)
    result = evaluate_injected(target, rng=np.random.default_rng(8))
    rows = {row["method"]: row for row in result.methods}
    depth = {name: row["S/N at 50 %"] for name, row in rows.items()}
    assert 2.5 < depth[MATCHED_FILTER] < 6
    assert rows[MATCHED_FILTER]["mag on matched"] == 0
    assert rows[SEXTRACTOR]["mag on matched"] < -0.15
    # False detections in a list of the same length cost depth, wherever they come from.
    assert rows["careless"]["mag on matched"] < -0.05
    assert len({row["listed"] for row in result.methods}) == 1
    # The threshold of the list's length was set by this many peaks of the noise.
    rate, area = result.facts["noise peaks/Mpix"], result.facts["blank Mpix"]
    assert rows[MATCHED_FILTER]["upside down/Mpix"] == pytest.approx(rate, abs=3 / area)
    faint, bright = result.completeness[0], result.completeness[-1]
    assert bright[MATCHED_FILTER] == 1.0 > faint[MATCHED_FILTER]
    assert result.flux == [] and "matched filter" in result.table()


def test_scores_that_move_with_the_frame_gain_nothing(target, monkeypatch):
    """A method that lowers its bar where more sources are must not seem to go deeper."""

    def matched(frame):
        return detect_matched_filter(
            frame.data, gaussian_psf(FWHM), mask=frame.mask, cosmic_rays=False
        )

    def moved(frame):
        table = matched(frame)
        return detection_table(table["x"], table["y"], table["score"] + table.size / 20)

    methods = {SEXTRACTOR: matched, "sextractor cleaned": matched, "moved": moved,
               MATCHED_FILTER: matched}  # fmt: skip
    monkeypatch.setattr(injecting, "comparison_methods", lambda **_: dict(methods))
    monkeypatch.setattr(injecting, "ENOUGH_SOURCES", 60)
    rows = evaluate_injected(target, rng=np.random.default_rng(9)).methods
    assert [row["mag on matched"] for row in rows] == [0, 0, 0]


def test_the_last_row_is_the_median_frame():
    def result(name, depth, flux):
        methods = [
            {"method": method, "S/N at 50 %": value, "mag on default": 0.1, "mag on matched": -0.1}
            for method, value in (("sextractor default", 9.0), ("bgrem", depth))
        ]
        facts = {"FWHM": 3.0, "scored": 50}
        rows = [{"S/N": FLUX_BIN, "sources": flux}, {"S/N": "20-50", "sources": 9.0}]
        return InjectionReport(name, facts, methods, [], rows)

    results = [result("a", 4.0, 0.9), result("b", 5.0, np.nan), result("c", 7.0, 1.0)]
    *_, middle = rows = summary_rows(results)
    assert [row["frame"] for row in rows] == ["a", "b", "c", "median"]
    assert middle["S/N, bgrem"] == 5.0 and middle["FWHM"] == 3.0
    assert [row["flux, S/N 10-20"] for row in rows if row["frame"] in "ac"] == [0.9, 1.0]
    assert middle["flux, S/N 10-20"] == pytest.approx(0.95)
