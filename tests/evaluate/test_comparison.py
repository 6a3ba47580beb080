"""Methods side by side: the report of one kind of frames, and several frames pooled."""

from dataclasses import replace

import numpy as np
import pytest
from skies import control_frame, isolated_stars

from bgrem.detection.peaks import detection_table
from bgrem.evaluate import baselines
from bgrem.evaluate.comparison import LOWEST_RATE, Report, evaluate_frames, headline, pooled_rows
from bgrem.evaluate.froc import froc
from bgrem.evaluate.methods import (
    DEEP_ENOUGH,
    MATCHED_FILTER,
    SEXTRACTOR,
    benchmark_frames,
    comparison_methods,
    deep_enough,
)
from bgrem.evaluate.truth import truth_of_catalogue


def test_simulated_frames_are_frozen_by_their_seed():
    pytest.importorskip("galsim")
    settings = {"seed": 3, "scene": {"shape": [128, 128]}, "vary": {"fwhm": [3.0, 5.0]}}
    first, second = benchmark_frames(2, settings)
    again = next(benchmark_frames(1, settings))
    assert np.array_equal(first.data, again.data)
    assert not np.array_equal(first.data, second.data)
    assert first.truth.radius != second.truth.radius
    assert first.psf.sum() == pytest.approx(1.0)


def test_a_missing_program_is_reported(monkeypatch):
    data, _, truth = isolated_stars(1, size=256)
    frame = control_frame(data, truth)
    monkeypatch.setattr(baselines, "source_extractor_program", lambda: None)
    chosen = comparison_methods()
    chosen = {name: chosen[name] for name in ("matched filter", "source-extractor")}
    result = evaluate_frames([frame], chosen, title="control")
    assert "not installed" in result.table()


def test_bgrem_is_run_and_scored(toy_model, control):
    data, _, truth = control[0]
    frame = control_frame(data, truth)
    chosen = {"bgrem": comparison_methods(model=toy_model, program=False)["bgrem"]}
    result = evaluate_frames([frame], chosen, title="control")
    curve = result.curves["bgrem"]
    # The toy is no good model, but it sees bright stars.
    assert curve.found(100.0)[curve.source_snr > 30].mean() > 0.9
    assert "bgrem" in result.table()


def test_headline_is_the_depth_at_lowest_rate(control, by_matched_filter):
    # bgrem's list is the matched filter's, of sources that are half as bright.
    ours = replace(by_matched_filter, source_snr=by_matched_filter.source_snr / 1.5)
    curves = {MATCHED_FILTER: by_matched_filter, "bgrem": ours}
    rows = Report("control", curves, {}, 1.0).rows(resamples=20)
    marked = [row for row in rows if f"depth gain on {MATCHED_FILTER}" in row]
    assert [(row["method"], row["rate"]) for row in marked] == [("bgrem", 10.0)]
    gain, (low, high) = marked[0][f"depth gain on {MATCHED_FILTER}"]
    assert (
        gain == pytest.approx(2.5 * np.log10(1.5), abs=0.05) and low <= gain + 0.03 <= high + 0.06
    )
    lines = headline(rows)
    assert lines[0].startswith("bgrem at 10 false per Mpix: depth gain at 50 % completeness")
    assert f"{gain:+.3f} mag" in lines[1] and "1.000 (1.000-1.000)" in lines[1]
    assert headline(rows[:1]) == []


def test_a_ladder_ends_at_enough_false_detections(control):
    data, _, truth = control[0]
    frame = control_frame(data, truth)
    y, x = np.nonzero(truth.blank)
    most = int(DEEP_ENOUGH * 300.0 * truth.area)
    for count, ends in ((most, False), (most + 1, True)):
        assert deep_enough(frame, detection_table(x[:count], y[:count], x[:count])) == ends


def curve_of(found, side, *, false=0):
    """A list of the first of 16 sources in a frame, after some false ones."""
    x, y = (axis.ravel() for axis in np.meshgrid(*[np.linspace(20, side - 60, 4)] * 2))
    truth = truth_of_catalogue(
        x, y, np.full(16, 9.0), usable=np.ones((side, side), dtype=bool), fwhm=3.0
    )
    wrong = detection_table(
        np.full(false, side - 10.0), 7.0 * np.arange(1, 1 + false), np.ones(false)
    )
    table = detection_table(x[:found], y[:found], np.full(found, 0.5))
    return froc(np.concatenate([wrong, table]), truth)


def report_of(side, **found):
    curves = {name: curve_of(count, side) for name, count in found.items()}
    return Report("frame", curves, {}, 1.0)


@pytest.fixture
def reports():
    names = SEXTRACTOR, MATCHED_FILTER, "bgrem"
    large = report_of(1000, **dict(zip(names, (8, 16, 12), strict=True)))
    return [large, report_of(150, bgrem=3)]


def test_counts_are_added_and_divided(reports):
    rows = [row for row in pooled_rows(reports, resamples=50) if row["false/Mpix"] == LOWEST_RATE]
    # 150 pixels square allow ten false detections at no rate.
    assert [row["frames"] for row in rows] == [1]
    reports[1] = report_of(400, **{SEXTRACTOR: 2, MATCHED_FILTER: 4, "bgrem": 8, "alone": 3})
    rows = {row["method"]: row for row in pooled_rows(reports, resamples=50)
            if row["false/Mpix"] == LOWEST_RATE}  # fmt: skip
    # What was not run on every frame is left out.
    assert set(rows) == {SEXTRACTOR, MATCHED_FILTER, "bgrem"}
    ours = rows["bgrem"]
    assert ours["frames"] == 2 and ours["true"] == 20
    assert ours[f"/ {SEXTRACTOR}"] == pytest.approx(2.0)
    assert ours[f"/ {MATCHED_FILTER}"] == pytest.approx(1.0)
    low, high = ours[f"68 % / {SEXTRACTOR}"]
    assert low < 2.0 < high
    assert rows[SEXTRACTOR][f"68 % / {SEXTRACTOR}"] == (1.0, 1.0)


def test_each_frame_has_its_own_rate():
    # False ones first: 10 per Mpix hide all sources of the large frame, 100 those of no frame.
    large = Report("large", {"bgrem": curve_of(16, 1000, false=12)}, {}, 1.0)
    small = Report("small", {"bgrem": curve_of(16, 400, false=12)}, {}, 1.0)
    rows = {row["false/Mpix"]: row["true"] for row in pooled_rows([large, small], resamples=5)}
    assert rows == {LOWEST_RATE: 16.0, "100": 32.0, "300": 32.0}


def test_too_small_for_anything():
    assert pooled_rows([report_of(100, bgrem=3)], resamples=5) == []
