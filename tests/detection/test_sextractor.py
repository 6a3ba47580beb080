"""SExtractor's background and detections, and the matched filter beside it."""

import numpy as np
import pytest
import sep
from skies import FWHM, RMS, SKY, isolated_stars

from bgrem.detection.peaks import detection_table
from bgrem.detection.point_sources import detect_matched_filter
from bgrem.detection.psf import gaussian_psf
from bgrem.detection.sextractor import detect_sextractor, join_runs, scan_thresholds, subtract_sky
from bgrem.evaluate.froc import froc


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
    clean = froc(detect_matched_filter(hit, psf, mask=mask), truth)
    plain = froc(detect_matched_filter(hit, psf, mask=mask, cosmic_rays=False), truth)
    ideal = froc(detect_matched_filter(data, psf), truth)
    assert plain.true_positives(100) < 0.8 * ideal.true_positives(100)
    assert clean.true_positives(100) > 0.9 * ideal.true_positives(100)


def test_noise_map_does_not_undershoot():
    rng = np.random.default_rng(3)
    data = (SKY + RMS * rng.standard_normal((512, 512))).astype(np.float32)
    # The halo of a bright star fills some boxes; SEP's own map is negative beside them.
    distance = np.hypot(*(axis - 256.0 for axis in np.mgrid[:512, :512]))
    data += (2e4 * RMS * np.exp(-distance / 16.0)).astype(np.float32)
    assert sep.Background(data).rms().min() < 0
    for passes in (1, 2):
        assert subtract_sky(data, passes=passes).rms.min() > 0.9 * RMS


def test_a_quieter_corner_stays_quieter():
    rng = np.random.default_rng(4)
    width = np.where(np.arange(512) < 256, RMS, 0.2 * RMS)
    rms = subtract_sky(SKY + width * rng.standard_normal((300, 512))).rms
    assert np.median(rms[:, 400:]) == pytest.approx(0.2 * RMS, rel=0.1)
    assert np.median(rms[:, :100]) == pytest.approx(RMS, rel=0.1)


def test_runs_join_to_the_highest_threshold():
    bright = detection_table([10], [10], [50.0])
    merged = detection_table([10.4, 30, 40], [10, 30, 40], [52.0, 4.0, 5.0])
    joined = join_runs([bright, merged], np.array([10.0, 2.0]), radius=1.5)
    assert joined["x"].tolist() == [10.0, 40.0, 30.0]
    assert joined["score"][0] >= 10.0 and (joined["score"][1:] >= 2.0).all()
    assert (joined["score"][1:] < 10.0).all()


def test_a_shortened_ladder_gives_the_same_list():
    data, _, _ = isolated_stars(0)
    data = data[:256, :256]
    whole = detect_sextractor(data)
    short = detect_sextractor(data, enough=lambda run: run.size > 60)
    assert 60 < short.size < whole.size
    assert np.array_equal(short, whole[: short.size])


def test_a_scan_ends_at_enough_detections():
    seen = []

    def run(threshold):
        seen.append(threshold)
        return detection_table([10.0 * threshold], [5.0], [threshold])

    joined = scan_thresholds(run, np.array([4.0, 3.0, 2.0]), enough=lambda _: len(seen) == 2)
    assert seen == [4.0, 3.0] and joined["x"].tolist() == [40.0, 30.0]
