"""Detections against truth: the scoring itself is tried on skies whose answer is known."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import sep
from scipy import ndimage
from scipy.special import erf
from scipy.stats import norm

from bgrem.cli.evaluate import main
from bgrem.detection import detect
from bgrem.detection.peaks import detection_table, local_maxima, prominence
from bgrem.detection.psf import (
    GAUSSIAN_FWHM,
    gaussian_psf,
    matched_filter,
    measure_psf,
    moffat_psf,
    noise_pixels,
    psf_fwhm,
)  # fmt: skip
from bgrem.evaluate import comparison as report
from bgrem.evaluate.froc import (
    FALSE,
    TRUE,
    UNSCORED,
    block_weights,
    compare,
    depth_gain,
    froc,
    match,
)  # fmt: skip
from bgrem.evaluate.pair import Pair, truth_of_pair
from bgrem.evaluate.truth import truth_of_catalogue
from bgrem.masks.areas import inner

FWHM = 3.0
SKY, RMS = 1000.0, 10.0


def add_star(image, x, y, flux, fwhm=FWHM, half=12):
    """Add a Gaussian star, integrated over pixels, in place."""
    width = np.sqrt(2.0) * fwhm / GAUSSIAN_FWHM
    row, column = round(y), round(x)
    edges = np.arange(-half, half + 2) - 0.5
    across_y = 0.5 * np.diff(erf((edges - (y - row)) / width))
    across_x = 0.5 * np.diff(erf((edges - (x - column)) / width))
    image[row - half : row + half + 1, column - half : column + half + 1] += flux * np.outer(
        across_y, across_x
    )


def isolated_stars(seed, *, size=768, spacing=32, brightest=100.0):
    """The control: isolated stars on a flat sky with white noise; data, sources, table, truth."""
    rng = np.random.default_rng(seed)
    y, x = (axis.ravel() + rng.uniform(-3, 3, axis.size) for axis in
            np.mgrid[spacing // 2 : size : spacing, spacing // 2 : size : spacing])  # fmt: skip
    snr = np.exp(rng.uniform(np.log(2.0), np.log(brightest), x.size))
    flux = snr * RMS * noise_pixels(gaussian_psf(FWHM)) ** 0.5
    sources = np.zeros((size, size))
    for star in zip(x, y, flux, strict=True):
        add_star(sources, *star)
    data = (sources + SKY + RMS * rng.standard_normal((size, size))).astype(np.float32)
    usable = inner(data.shape, 10)
    return data, sources, truth_of_catalogue(x, y, snr, usable=usable, fwhm=FWHM)


@pytest.fixture(scope="module")
def control():
    return [isolated_stars(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def by_matched_filter(control):
    psf = gaussian_psf(FWHM)
    return froc(
        [detect.detect_matched_filter(data, psf, cosmic_rays=False) for data, _, _ in control],
        [truth for _, _, truth in control],
    )


def truths(control):
    return [truth for _, _, truth in control]


# --- the curve ---------------------------------------------------------------------------------


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


def test_what_is_false_and_what_is_not_scored():
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


def test_chance_is_the_share_of_the_area_near_sources():
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


def test_interval_of_a_count_is_that_of_a_binomial(by_matched_filter):
    row = compare(by_matched_filter, by_matched_filter, rng=np.random.default_rng(1))[0]
    assert row.ratio == 1.0 and row.ratio_interval == (1.0, 1.0)
    low, high = row.true_interval
    share = row.true / by_matched_filter.count
    spread = np.sqrt(by_matched_filter.count * share * (1 - share))
    # The threshold moves with the false ones in each resample, and adds to the binomial spread.
    assert 0.6 * spread < (high - low) / 2 < 2.5 * spread


# --- the control: theory, and no linear method above the matched filter ---------------------------


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
        [detect.detect_matched_filter(data, psf, cosmic_rays=False) for data, _, _ in control],
        truths(control),
    )
    for row in compare(curve, by_matched_filter, rng=np.random.default_rng(0), resamples=20):
        assert row.ratio < 1.015
        if factor in (0.5, 2.0):
            assert row.ratio < 0.97


def test_sextractor_on_the_control(control, by_matched_filter):
    curve = froc([detect.detect_sextractor(data) for data, _, _ in control], truths(control))
    rows = compare(curve, by_matched_filter, rng=np.random.default_rng(0), resamples=20)
    assert rows and all(0.93 < row.ratio < 1.03 and row.complete for row in rows)


def test_oracle_plane_beats_the_matched_filter(control, by_matched_filter):
    # bgrem's recipe on a plane that knows: the sources themselves, as logits.
    detections = [
        detect.detect_peaks(np.log(np.maximum(sources, 1e-9) / RMS), threshold=-5.0)
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
        found.append(detect.detect_on_sources(sources, np.full_like(data, RMS)))
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


# --- peaks and PSF --------------------------------------------------------------------------------


def test_local_maxima_to_a_fraction_of_a_pixel():
    image = np.zeros((40, 40))
    add_star(image, 20.3, 15.8, 1.0)
    peak = local_maxima(image, threshold=0.01)
    assert peak.size == 1
    assert (peak["x"][0], peak["y"][0]) == pytest.approx((20.3, 15.8), abs=0.05)


def test_local_maxima_of_a_plateau_and_of_nan():
    image = np.zeros((12, 12))
    image[4:7, 5:8] = 1.0
    image[0, 0] = np.nan
    assert local_maxima(image, threshold=0.5).size == 1
    usable = np.ones(image.shape, dtype=bool)
    usable[:, 5:8] = False
    assert local_maxima(image, threshold=0.5, usable=usable).size == 0


def test_prominence_is_the_height_above_the_saddle():
    image = np.zeros((5, 9))
    image[2] = [0, 5, 3, 4, 1, 2, 0, 0, 0]
    height = prominence(image, np.array([2, 2, 2]), np.array([1, 3, 5]), floor=-0.5)
    assert height.tolist() == [5.5, 1.0, 1.0]


def test_psf_shapes():
    for fwhm in (1.5, 3.0, 6.0):
        psf = gaussian_psf(fwhm)
        assert psf.sum() == pytest.approx(1.0)
        # The integral over the pixel widens it: a twelfth of a pixel squared in variance.
        wide = np.hypot(fwhm, GAUSSIAN_FWHM / np.sqrt(12))
        assert psf_fwhm(psf) == pytest.approx(wide, rel=0.06)
        assert noise_pixels(psf) == pytest.approx(4 * np.pi * (wide / GAUSSIAN_FWHM) ** 2, rel=0.05)
        assert psf_fwhm(moffat_psf(fwhm)) == pytest.approx(wide, rel=0.1)


def test_matched_filter_gives_the_flux_around_bad_pixels():
    image = np.zeros((60, 60))
    add_star(image, 30, 30, 500.0)
    weight = np.full(image.shape, 0.25)
    image[31, 30], weight[31, 30] = 1e6, 0.0
    weight[:, :8] = 0.0
    flux, error = matched_filter(image, weight, gaussian_psf(FWHM))
    assert flux[30, 30] == pytest.approx(500.0, rel=1e-3)
    assert error[45, 45] == pytest.approx(2.0 * noise_pixels(gaussian_psf(FWHM)) ** 0.5, rel=1e-3)
    assert np.isinf(error[30, 0]) and flux[30, 0] == 0


def test_measured_psf(control):
    data, _, _ = control[0]
    sky = detect.subtract_sky(data)
    psf = measure_psf(sky.residual, sky.rms)
    assert psf.sum() == pytest.approx(1.0)
    assert psf_fwhm(psf) == pytest.approx(psf_fwhm(gaussian_psf(FWHM)), rel=0.05)
    with pytest.raises(ValueError, match="too few"):
        measure_psf(np.zeros((64, 64), np.float32), 1.0)


# --- detectors --------------------------------------------------------------------------------------


def test_cosmic_rays_and_bad_pixels_are_not_detected():
    pytest.importorskip("astroscrappy")
    data, _, truth = isolated_stars(7, size=256)
    rng = np.random.default_rng(8)
    row, column = rng.integers(12, 244, (2, 30))
    hit = data.copy()
    hit[row, column] += 60 * RMS
    mask = np.zeros(hit.shape, dtype=bool)
    hit[:, 100:102], mask[:, 100:102] = 1e5, True
    psf = gaussian_psf(FWHM)
    clean = froc(detect.detect_matched_filter(hit, psf, mask=mask), truth)
    plain = froc(detect.detect_matched_filter(hit, psf, mask=mask, cosmic_rays=False), truth)
    ideal = froc(detect.detect_matched_filter(data, psf), truth)
    assert plain.true_positives(100) < 0.8 * ideal.true_positives(100)
    assert clean.true_positives(100) > 0.9 * ideal.true_positives(100)


def test_the_noise_map_does_not_swing_below_the_noise():
    rng = np.random.default_rng(3)
    data = (SKY + RMS * rng.standard_normal((512, 512))).astype(np.float32)
    # The halo of a bright star fills some boxes; SEP's own map is negative beside them.
    distance = np.hypot(*(axis - 256.0 for axis in np.mgrid[:512, :512]))
    data += (2e4 * RMS * np.exp(-distance / 16.0)).astype(np.float32)
    assert sep.Background(data).rms().min() < 0
    for passes in (1, 2):
        assert detect.subtract_sky(data, passes=passes).rms.min() > 0.9 * RMS


def test_a_quieter_corner_stays_quieter():
    rng = np.random.default_rng(4)
    width = np.where(np.arange(512) < 256, RMS, 0.2 * RMS)
    rms = detect.subtract_sky(SKY + width * rng.standard_normal((300, 512))).rms
    assert np.median(rms[:, 400:]) == pytest.approx(0.2 * RMS, rel=0.1)
    assert np.median(rms[:, :100]) == pytest.approx(RMS, rel=0.1)


def test_runs_join_to_the_highest_threshold():
    bright = detection_table([10], [10], [50.0])
    merged = detection_table([10.4, 30, 40], [10, 30, 40], [52.0, 4.0, 5.0])
    joined = detect.join_runs([bright, merged], np.array([10.0, 2.0]), radius=1.5)
    assert joined["x"].tolist() == [10.0, 40.0, 30.0]
    assert joined["score"][0] >= 10.0 and (joined["score"][1:] >= 2.0).all()
    assert (joined["score"][1:] < 10.0).all()


@pytest.mark.skipif(detect.source_extractor_program() is None, reason="program not installed")
def test_the_program_agrees_with_sep():
    data, _, truth = isolated_stars(3, size=384)
    program = froc(detect.detect_source_extractor(data), truth)
    library = froc(detect.detect_sextractor(data), truth)
    assert program.true_positives(100) == pytest.approx(library.true_positives(100), rel=0.03)


# --- truth of a pair --------------------------------------------------------------------------------


def made_pair(seed=4, *, size=384, shift=0.0, crowding=1.0):
    """A single exposure and a stack four times as deep, with a hot pixel that both have."""
    rng = np.random.default_rng(seed)
    count = int(150 * crowding)
    x, y = rng.uniform(20, size - 20, (2, count))
    snr = np.exp(rng.uniform(np.log(0.7), np.log(200), count))
    unit = RMS * noise_pixels(gaussian_psf(FWHM)) ** 0.5
    single, deep = np.zeros((2, size, size))
    for star in zip(x, y, snr * unit, strict=True):
        add_star(deep, *star)
        add_star(single, star[0] + shift, star[1], star[2])
    single += SKY + RMS * rng.standard_normal(single.shape)
    error = np.full(deep.shape, RMS / 4, np.float32)
    deep += error * rng.standard_normal(deep.shape)
    single[200, 200] += 40 * RMS
    deep[200, 200] += 40 * RMS
    deep[:, -3:] = np.nan
    mask = np.zeros(single.shape, dtype=bool)
    mask[50:54, 50:90] = True
    pair = Pair(single.astype(np.float32), deep.astype(np.float32), error, mask, np.inf)
    return pair, x + shift, y, snr


def test_truth_of_a_pair():
    pair, x, y, snr = made_pair(shift=0.4)
    seen = truth_of_pair(pair)
    truth = seen.truth
    assert seen.offset == pytest.approx((0.4, 0.0), abs=0.1)
    # Every listed source is one, and all clear ones are listed.
    listed = np.flatnonzero(truth.counted)
    distance = np.hypot(truth.x[listed][:, None] - x, truth.y[listed][:, None] - y)
    assert (distance.min(axis=1) < 1.5).all()
    lonely = np.sort(np.hypot(x[:, None] - x, y[:, None] - y), axis=1)[:, 1] > 8
    usable = truth.usable[np.rint(y).astype(int), np.rint(x).astype(int)]
    clear = lonely & usable & (snr > 3)
    found = np.hypot(truth.x[listed][:, None] - x[clear], truth.y[listed][:, None] - y[clear])
    assert (found.min(axis=0) < 1.5).mean() > 0.98
    ratio = truth.snr[listed][found.argmin(axis=0)] / snr[clear]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.07)
    # The hot pixel that both have is neither true nor false; nor is what is masked.
    assert not truth.usable[200, 200] and not truth.usable[52, 70] and not truth.usable[9, 2]
    assert (np.abs(seen.ghosts - 200).max(axis=1) < 1).any()
    assert truth.blank.mean() > 0.6


def test_noise_of_the_exposure_is_known_in_a_crowd():
    pair, x, y, snr = made_pair(crowding=8.0)
    truth = truth_of_pair(pair, psf=gaussian_psf(FWHM)).truth
    lonely = np.sort(np.hypot(x[:, None] - x, y[:, None] - y), axis=1)[:, 1] > 7
    distance = np.hypot(truth.x[:, None] - x, truth.y[:, None] - y)
    near = distance.argmin(axis=1)
    same = (distance.min(axis=1) < 1) & lonely[near] & (snr[near] > 10)
    assert np.median(truth.snr[same] / snr[near][same]) == pytest.approx(1.0, abs=0.15)


# --- the report and the command ---------------------------------------------------------------------


@pytest.fixture
def pair_files(tmp_path):
    from astropy.io import fits

    pair, *_ = made_pair(size=448)
    single, deep = tmp_path / "single.fits", tmp_path / "deep.fits"
    mask = fits.ImageHDU(pair.mask.astype(np.uint8), name="MASK")
    fits.HDUList([fits.PrimaryHDU(pair.single), mask]).writeto(single)
    images = [fits.ImageHDU(pair.deep, name="SCI"), fits.ImageHDU(pair.error, name="SE")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(deep)
    return str(single), str(deep)


def test_command_on_a_pair(pair_files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "out"
    arguments = ["--model", "none", "--quiet", "--output-dir", str(folder)]
    assert main(["--pair", *pair_files, *arguments]) == 0
    text = capsys.readouterr().out
    assert "matched filter" in text and "sextractor" in text
    summary = json.loads((folder / "single.json").read_text())
    assert {row["rate"] for row in summary["rows"]} == {100.0, 300.0}
    assert summary["area_mpix"] < 0.2 and summary["sources"] > 50
    assert (folder / "single.csv").read_text().startswith("method,score")
    assert (folder / "single.png").stat().st_size > 10_000


def test_command_is_told_the_fwhm(pair_files, capsys, monkeypatch):
    def measured(*_, **__):
        raise ValueError("no star")

    monkeypatch.setattr("bgrem.evaluate.pair.measure_psf", measured)
    with pytest.raises(ValueError, match="no star"):
        report.pair_frame(*pair_files)
    frame = report.pair_frame(*pair_files, fwhm=3.0)
    assert abs(psf_fwhm(frame.psf) - 3.0) < 0.2
    with pytest.raises(SystemExit):
        main(["--pair", *pair_files, "--fwhm", "0"])


def test_command_says_what_is_not_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "bgrem.simulate.scene_files", None)
    monkeypatch.setattr("bgrem.evaluate.comparison.methods", lambda **_: {})
    assert main(["--simulate", "1", "--model", "none", "--quiet"]) == 1
    assert "is not installed (pip install" in capsys.readouterr().err


def test_command_refuses_a_scene_that_cannot_be(tmp_path, capsys):
    path = tmp_path / "scenes.toml"
    path.write_text('title = "mine"\n[scene]\nfhwm = 3.0\n')
    assert main(["--simulate", "1", "--scenes", str(path), "--model", "none", "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("bgrem-evaluate: mine: a scene has no field 'fhwm'")


def test_command_refuses(tmp_path, pair_files, capsys):
    assert main(["--pair", "missing.fits", pair_files[1], "--model", "none"]) == 1
    assert "missing.fits: no such file" in capsys.readouterr().err
    assert main(["--pair", pair_files[0], pair_files[0], "--model", "none"]) == 1
    assert "SCI" in capsys.readouterr().err
    for wrong in ([], ["--simulate", "0"], ["--pair", "one.fits"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2


def test_simulated_frames_are_frozen_by_their_seed():
    pytest.importorskip("galsim")
    settings = {"seed": 3, "scene": {"shape": [128, 128]}, "vary": {"fwhm": [3.0, 5.0]}}
    first, second = report.benchmark_frames(2, settings)
    again = next(report.benchmark_frames(1, settings))
    assert np.array_equal(first.data, again.data)
    assert not np.array_equal(first.data, second.data)
    assert first.truth.radius != second.truth.radius
    assert first.psf.sum() == pytest.approx(1.0)


def test_a_missing_program_is_said(monkeypatch):
    data, _, truth = isolated_stars(1, size=256)
    frame = report.BenchmarkFrame(
        "control", data, np.zeros(data.shape, bool), gaussian_psf(FWHM), 1.0, truth
    )
    monkeypatch.setattr(detect, "source_extractor_program", lambda: None)
    chosen = report.methods()
    chosen = {name: chosen[name] for name in ("matched filter", "source-extractor")}
    result = report.evaluate_frames([frame], chosen, title="control")
    assert "not installed" in result.table()


def test_bgrem_is_run_and_scored(toy_model, control):
    data, _, truth = control[0]
    frame = report.BenchmarkFrame(
        "control", data, np.zeros(data.shape, bool), gaussian_psf(FWHM), 1.0, truth
    )
    chosen = {"bgrem": report.methods(model=toy_model, program=False)["bgrem"]}
    result = report.evaluate_frames([frame], chosen, title="control")
    curve = result.curves["bgrem"]
    # The toy is no good model, but it sees bright stars.
    assert curve.found(100.0)[curve.source_snr > 30].mean() > 0.9
    assert "bgrem" in result.table()


def test_the_headline_is_the_depth_at_the_lowest_rate(control, by_matched_filter):
    # bgrem's list is the matched filter's, of sources that are half as bright.
    ours = replace(by_matched_filter, source_snr=by_matched_filter.source_snr / 1.5)
    curves = {report.MATCHED_FILTER: by_matched_filter, "bgrem": ours}
    rows = report.Report("control", curves, {}, 1.0).rows(resamples=20)
    marked = [row for row in rows if f"depth gain on {report.MATCHED_FILTER}" in row]
    assert [(row["method"], row["rate"]) for row in marked] == [("bgrem", 10.0)]
    gain, (low, high) = marked[0][f"depth gain on {report.MATCHED_FILTER}"]
    assert (
        gain == pytest.approx(2.5 * np.log10(1.5), abs=0.05) and low <= gain + 0.03 <= high + 0.06
    )
    lines = report.headline(rows)
    assert lines[0].startswith("bgrem at 10 false per Mpix: depth gain at 50 % completeness")
    assert f"{gain:+.3f} mag" in lines[1] and "1.000 (1.000-1.000)" in lines[1]
    assert report.headline(rows[:1]) == []


def test_a_ladder_ends_where_nothing_more_is_told(control):
    data, _, truth = control[0]
    frame = report.BenchmarkFrame(
        "control", data, np.zeros(data.shape, bool), gaussian_psf(FWHM), 1.0, truth
    )
    y, x = np.nonzero(truth.blank)
    most = int(report.DEEP_ENOUGH * 300.0 * truth.area)
    for count, ends in ((most, False), (most + 1, True)):
        assert report.deep_enough(frame, detection_table(x[:count], y[:count], x[:count])) == ends


def test_a_ladder_that_ends_early_gives_the_same_list_so_far(control):
    data, _, _ = control[0]
    data = data[:256, :256]
    whole = detect.detect_sextractor(data)
    short = detect.detect_sextractor(data, enough=lambda run: run.size > 60)
    assert 60 < short.size < whole.size
    assert np.array_equal(short, whole[: short.size])
