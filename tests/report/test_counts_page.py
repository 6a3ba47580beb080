"""The page and the picture of a counts map."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("jinja2")

from bgrem.counts.counts_path import CountsBackground
from bgrem.masks.flags import MASKED
from bgrem.report.charts import counts_chart
from bgrem.report.counts_page import counts_picture, expected_pixels
from bgrem.report.document import image_page
from bgrem.separation import Provenance, Separation

SHAPE = (60, 90)
STAR = (30.0, 20.0)  # x, y


def facts(**changes):
    known = {
        "version": "1", "model": "toy", "sha256": "0" * 64, "engine": "none", "steps": 1, "norm": 0.0, "level": 0.5,
        "rms": 0.7, "minpix": None, "fwhm": 3.0, "fwhm_from": "given", "signif_1": 5.0, "signif_10": 4.0,
    }  # fmt: skip
    return Provenance(**{**known, **changes})


def truth():
    y, x = np.indices(SHAPE)
    star = 80 * np.exp(-((x - STAR[0]) ** 2 + (y - STAR[1]) ** 2) / 4) / (4 * np.pi)
    return star.astype(np.float32), np.full(SHAPE, 0.5, np.float32)


@pytest.fixture
def parts():
    """A map whose parts are its truth, with one detection and four masked pixels."""
    sources, background = truth()
    counts = np.random.default_rng(5).poisson(sources + background).astype(np.int32)
    signif = np.full(SHAPE, -6.0, np.float32)
    signif[int(STAR[1]), int(STAR[0])] = 9.0
    signif[50, 70] = 3.0
    mask = np.zeros(SHAPE, np.uint8)
    mask[:2, :2] = MASKED
    sky = CountsBackground(background)
    return Separation(counts, sources, sky, mask, facts(), significance=signif)


def summary(page):
    return json.loads(re.search(r'<script id="summary"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_is_that_of_counts(parts):
    page = image_page(parts, name="map.fits", warnings=["look <here>"])
    assert "Counts compared with Poisson" in page and "SExtractor" not in page
    assert "look &lt;here&gt;" in page
    assert page.count('src="data:image/png') == 4
    good = (parts.mask == 0) * parts.data
    assert f"<dd>{good.sum()}</dd><dt>counts</dt>" in page
    assert summary(page)["line"].endswith("1 detections")


def test_detections_are_listed_and_marked(parts):
    page = image_page(parts, name="map.fits")
    rows = re.findall(r"<tr>((?:<td>[-+.e0-9]+</td>){5})</tr>", page)
    values = [[float(v) for v in re.findall(r"<td>(.*?)</td>", row)] for row in rows]
    assert len(values) == 1
    x, y, score, light, behind = values[0]
    assert np.hypot(x - STAR[0], y - STAR[1]) < 1 and score == 9
    # Within 3 pixels, 1 - exp(-9 / 4) of the star's light.
    assert light == pytest.approx(80 * (1 - np.exp(-9 / 4)), rel=0.05)
    assert behind == pytest.approx(0.5 * np.pi * 9, rel=0.02)
    circle = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', page)[0]
    assert abs(float(circle[0]) - 30.5) < 1 and abs(float(circle[1]) - (60 - 20.5)) < 1


def test_coordinates_of_the_header(parts):
    header = {
        "CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CRPIX1": 31.0, "CRPIX2": 21.0, "CRVAL1": 12.5, "CRVAL2": 0.0,
        "CDELT1": -0.05, "CDELT2": 0.05, "CUNIT1": "deg", "CUNIT2": "deg", "OBJECT": "Centre",
    }  # fmt: skip
    page = image_page(parts, name="map.fits", header=header)
    assert "GLON [deg]" in page and "GLAT [deg]" in page and "Centre" in page
    longitude = float(re.search(r"<td>30</td><td>20</td><td>([-\d.]+)</td>", page)[1])
    assert longitude == pytest.approx(12.5, abs=0.05)


@pytest.mark.parametrize("changes", [{"significance": None}, {"provenance": facts(signif_10=None)}])
def test_without_a_threshold_nothing_is_called_a_detection(parts, changes):
    page = image_page(replace(parts, **changes), name="map.fits")
    assert '<h2 id="detections">' not in page and "detections" not in summary(page)["line"]


def test_empty_maps_have_a_page(parts):
    nothing = np.zeros(SHAPE, np.float32)
    empty = replace(
        parts, data=nothing.astype(np.int32), sources=nothing, sky=CountsBackground(nothing),
        significance=nothing - 5,
    )  # fmt: skip
    assert "<dd>0</dd><dt>counts</dt>" in image_page(empty, name="empty.fits")
    assert counts_picture(empty).startswith(b"\x89PNG")
    unseen = replace(parts, mask=np.full(SHAPE, MASKED, np.uint8))
    assert "Counts compared" in image_page(unseen, name="unseen.fits")


def test_the_truth_agrees_with_poisson():
    rng = np.random.default_rng(2)
    for level in (0.02, 3.0, 400.0):
        expected = level * rng.uniform(0.5, 2, 40_000)
        edges, observed, found = expected_pixels(rng.poisson(expected), expected)
        assert observed.sum() == 40_000 and found.sum() == pytest.approx(40_000, rel=1e-3)
        large = found > 20
        chi = ((observed - found) ** 2 / found)[large].sum() / large.sum()
        assert chi < 2.0
        wrong = expected_pixels(rng.poisson(1.3 * expected), expected)
        large = wrong[2] > 20
        assert ((wrong[1] - wrong[2]) ** 2 / np.maximum(wrong[2], 1))[large].sum() > 5 * large.sum()
        assert "<svg" in counts_chart(edges, observed, found)


def test_the_picture_shows_the_counts_beside_the_sources(parts):
    from test_pictures import read_png

    picture = read_png(counts_picture(parts))
    assert picture.shape == (SHAPE[0], 2 * SHAPE[1] + 8)
    row, column = int(STAR[1]), int(STAR[0])
    right = picture[:, SHAPE[1] + 8 :]
    assert right[row, column] == 255 and np.median(right) == 0
