"""Detections against truth: the scoring is tested on skies whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import norm
from skies import FWHM, RMS, SKY

from bgrem.detection.detect import detect_on_sources, detect_peaks
from bgrem.detection.peaks import detection_table
from bgrem.detection.point_sources import detect_matched_filter
from bgrem.detection.psf import GAUSSIAN_FWHM, gaussian_psf
from bgrem.detection.sextractor import detect_sextractor
from bgrem.evaluate.bootstrap import block_weights, compare, depth_gain
from bgrem.evaluate.froc import FALSE, TRUE, UNSCORED, froc, match
from bgrem.evaluate.truth import truth_of_catalogue
from bgrem.masks.areas import inner


def truths(control):
    return [truth for _, _, truth in control]


def small_truth():
    """Two sources that count, one that is tolerated, in a field of 100 pixels."""
    usable = inner((100, 100), 5)
    return truth_of_catalogue([20, 22, 60], [20, 20, 60], [10.0, 5.0, 1.0], usable=usable, fwhm=3.0)


def test_match_is_one_to_one_and_by_score():
    truth = small_truth()
    # The best detection lies between both sources and takes the nearer; the next one the other.
    table = detection_table([20.8, 21.2, 21.0], [20, 20, 20], [9.0, 8.0, 7.0])
    outcome, source = match(table, truth)
    assert outcome.tolist() == [TRUE, TRUE, UNSCORED]
    assert source.tolist() == [0, 1, -1]


def test_false_and_unscored_detections():
    truth = small_truth()
    table = detection_table([60.5, 80, 2, 62.5], [60, 80, 50, 60], [9.0, 8.0, 7.0, 6.0])
    outcome, _ = match(table, truth)
    # On a source that does not count; in the blank; at the edge; beside the light of a source.
    assert outcome.tolist() == [UNSCORED, FALSE, UNSCORED, UNSCORED]


def test_counts_at_a_false_rate():
    usable = np.ones((1000, 1000), dtype=bool)
    x = np.arange(20.0, 980.0, 20.0)
    truth = truth_of_catalogue(x, x, np.full(x.size, 9.0), usable=usable, fwhm=3.0)
    # Every second detection is false, then only true ones follow.
    false = detection_table(x[:20], 999 - x[:20], np.arange(100, 60, -2.0))
    true = detection_table(x, x, np.arange(101, 53, -1.0)[: x.size])
    curve = froc(np.concatenate([false, true]), truth)
    assert curve.area == pytest.approx(1.0) and curve.count == x.size
    assert curve.allowed(10) and not curve.allowed(9.9)
    assert curve.true_positives(10) == 21
    assert curve.true_positives(300) == x.size
    assert curve.reaches(19) and not curve.reaches(20)
    assert curve.found(10)[:21].all() and not curve.found(10)[21:].any()


def test_equal_scores_share_a_threshold():
    truth = small_truth()
    table = detection_table([20, 80], [20, 80], [5.0, 5.0])
    assert froc(table, truth).true_positives(0.0) == 0


def test_frames_are_pooled():
    truth, table = small_truth(), detection_table([20], [20], [5.0])
    one, two = froc(table, truth), froc([table, table], [truth, truth])
    assert two.count == 2 * one.count and two.area == pytest.approx(2 * one.area)
    assert two.true_positives(10) == 2 * one.true_positives(10)
    assert two.source.tolist() == [0, 2]


def test_no_detection_and_no_source():
    truth = small_truth()
    nothing = detection_table([], [], [])
    assert froc(nothing, truth).true_positives(10) == 0
    empty = truth_of_catalogue([], [], [], usable=np.ones((50, 50), dtype=bool), fwhm=3.0)
    assert froc(detection_table([4], [4], [1.0]), empty).true_positives(10) == 0
    with pytest.raises(ValueError, match="usable"):
        froc(nothing, replace(truth, usable=np.zeros_like(truth.usable)))
    with pytest.raises(ValueError, match="2 detection lists for 1"):
        froc([nothing, nothing], [truth])


def test_masked_pixels_do_not_count():
    truth = small_truth()
    usable = truth.usable.copy()
    usable[:, :40] = False
    masked = truth_of_catalogue(truth.x, truth.y, truth.snr, usable=usable, fwhm=3.0)
    assert masked.counted.sum() == 0
    outcome, _ = match(detection_table([20, 30], [20, 80], [9.0, 8.0]), masked)
    assert (outcome == UNSCORED).all()


def test_chance_is_the_area_near_sources():
    rng = np.random.default_rng(0)
    usable = np.ones((400, 400), dtype=bool)
    x, y = rng.uniform(0, 399, (2, 100))
    truth = truth_of_catalogue(x, y, np.full(100, 9.0), usable=usable, fwhm=4.0)
    positions = rng.uniform(0, 399, (2, 100_000))
    distance = np.hypot(positions[0][:, None] - x, positions[1][:, None] - y).min(axis=1)
    share = np.mean(distance < truth.radius)
    assert froc(detection_table([], [], []), truth).chance == pytest.approx(share, rel=0.05)


def test_bootstrap_weights_leave_empty_blocks_out(by_matched_filter):
    weights = block_weights(by_matched_filter, 50, np.random.default_rng(0))
    blocks = np.count_nonzero(by_matched_filter.block_area)
    assert (weights.sum(axis=1) == blocks).all()
    whole = np.ones(by_matched_filter.block_area.size)
    assert by_matched_filter.true_positives(30, whole) == by_matched_filter.true_positives(30)


def test_interval_of_a_count_is_binomial(by_matched_filter):
    row = compare(by_matched_filter, by_matched_filter, rng=np.random.default_rng(1))[0]
    assert row.ratio == 1.0 and row.ratio_interval == (1.0, 1.0)
    low, high = row.true_interval
    share = row.true / by_matched_filter.count
    spread = np.sqrt(by_matched_filter.count * share * (1 - share))
    # The threshold moves with the false ones in each resample, and adds to the binomial spread.
    assert 0.6 * spread < (high - low) / 2 < 2.5 * spread


def test_matched_filter_is_as_theory_says(control, by_matched_filter):
    snr = by_matched_filter.source_snr
    for rate in (10.0, 30.0, 100.0):
        threshold = by_matched_filter.threshold(rate)
        expected = norm.cdf(snr - threshold).sum()
        # The maximum over neighbouring pixels lies a little above the value at the centre.
        assert 1.0 <= by_matched_filter.true_positives(rate) / expected < 1.05
    # Peaks of a Gaussian field of this correlation (Bond & Efstathiou 1987, high thresholds):
    # n(> t) = t exp(-t^2 / 2) / ((2 pi)^1.5 sigma^2), with a filtered noise of sqrt(2) PSF widths.
    threshold = by_matched_filter.threshold(100.0)
    width = np.sqrt(2.0) * FWHM / GAUSSIAN_FWHM
    peaks = threshold * np.exp(-0.5 * threshold**2) / ((2 * np.pi) ** 1.5 * width**2) * 1e6
    blank = np.mean([truth.blank.sum() / truth.usable.sum() for truth in truths(control)])
    assert 100.0 == pytest.approx(peaks * blank, rel=0.35)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.3, 2.0])
def test_no_other_filter_beats_the_matched_one(control, by_matched_filter, factor):
    psf = gaussian_psf(factor * FWHM)
    curve = froc(
        [detect_matched_filter(data, psf, cosmic_rays=False) for data, _, _ in control],
        truths(control),
    )
    for row in compare(curve, by_matched_filter, rng=np.random.default_rng(0), resamples=20):
        assert row.ratio < 1.015
        if factor in (0.5, 2.0):
            assert row.ratio < 0.97


def test_sextractor_on_the_control(control, by_matched_filter):
    curve = froc([detect_sextractor(data) for data, _, _ in control], truths(control))
    rows = compare(curve, by_matched_filter, rng=np.random.default_rng(0), resamples=20)
    assert rows and all(0.93 < row.ratio < 1.03 and row.complete for row in rows)


def test_oracle_plane_beats_the_matched_filter(control, by_matched_filter):
    # bgrem's recipe on a plane that knows: the sources themselves, as logits.
    detections = [
        detect_peaks(np.log(np.maximum(sources, 1e-9) / RMS), threshold=-5.0)
        for _, sources, _ in control
    ]
    curve = froc(detections, truths(control))
    assert curve.true_positives(30) == curve.count
    rng = np.random.default_rng(0)
    assert compare(curve, by_matched_filter, rng=rng, resamples=10)[0].ratio > 1.1


def test_recipe_without_a_plane(control, by_matched_filter):
    # The sources smoothed by the PSF are what a linear denoiser would give.
    psf = gaussian_psf(FWHM)
    found = []
    for data, _, _ in control:
        sources = ndimage.convolve(data - SKY, psf)
        found.append(detect_on_sources(sources, np.full_like(data, RMS)))
    curve = froc(found, truths(control))
    assert 0.93 < curve.true_positives(30) / by_matched_filter.true_positives(30) < 1.01


def test_completeness_and_depth(control, by_matched_filter):
    threshold = by_matched_filter.threshold(30.0)
    limit = by_matched_filter.limiting_snr(30.0)
    assert limit == pytest.approx(threshold, rel=0.1)
    completeness = by_matched_filter.completeness(30.0, np.array([2.2, limit, 20.0]))
    assert completeness[0] < 0.2 and completeness[2] > 0.98
    assert completeness[1] == pytest.approx(0.5, abs=0.02)
    # The same list with the truth half as bright is 2.5 log10(2) deeper.
    fainter = replace(by_matched_filter, source_snr=by_matched_filter.source_snr / 1.5)
    gain, (low, high) = depth_gain(
        fainter, by_matched_filter, rate=30.0, rng=np.random.default_rng(0), resamples=40
    )
    assert gain == pytest.approx(2.5 * np.log10(1.5), abs=0.03)
    assert low <= gain <= high or high - low < 0.03
