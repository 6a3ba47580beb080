"""Several frames as one."""

import numpy as np
import pytest

from bgrem.detection.peaks import detection_table
from bgrem.evaluate.comparison import MATCHED_FILTER, SEXTRACTOR, Report
from bgrem.evaluate.froc import froc
from bgrem.evaluate.pooled import LOWEST, pooled_rows
from bgrem.evaluate.truth import truth_of_catalogue


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
    rows = [row for row in pooled_rows(reports, resamples=50) if row["false/Mpix"] == LOWEST]
    # 150 pixels square allow ten false detections at no rate.
    assert [row["frames"] for row in rows] == [1]
    reports[1] = report_of(400, **{SEXTRACTOR: 2, MATCHED_FILTER: 4, "bgrem": 8, "alone": 3})
    rows = {row["method"]: row for row in pooled_rows(reports, resamples=50)
            if row["false/Mpix"] == LOWEST}  # fmt: skip
    # What was not run on every frame is left out.
    assert set(rows) == {SEXTRACTOR, MATCHED_FILTER, "bgrem"}
    ours = rows["bgrem"]
    assert ours["frames"] == 2 and ours["true"] == 20
    assert ours[f"/ {SEXTRACTOR}"] == pytest.approx(2.0)
    assert ours[f"/ {MATCHED_FILTER}"] == pytest.approx(1.0)
    low, high = ours[f"68 % / {SEXTRACTOR}"]
    assert low < 2.0 < high
    assert rows[SEXTRACTOR][f"68 % / {SEXTRACTOR}"] == (1.0, 1.0)


def test_each_frame_has_the_rate_that_its_area_allows():
    # False ones first: 10 per Mpix hide all sources of the large frame, 100 those of no frame.
    large = Report("large", {"bgrem": curve_of(16, 1000, false=12)}, {}, 1.0)
    small = Report("small", {"bgrem": curve_of(16, 400, false=12)}, {}, 1.0)
    rows = {row["false/Mpix"]: row["true"] for row in pooled_rows([large, small], resamples=5)}
    assert rows == {LOWEST: 16.0, "100": 32.0, "300": 32.0}


def test_too_small_for_anything():
    assert pooled_rows([report_of(100, bgrem=3)], resamples=5) == []
