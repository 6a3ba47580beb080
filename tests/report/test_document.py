"""The page of an image: its numbers, its file, the index, the command."""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from skies import flat_sky, gaussian_stars
from test_pictures import read_png

pytest.importorskip("jinja2")

from bgrem.background import separate
from bgrem.cli.bgrem import main
from bgrem.masks.flags import ARTEFACT
from bgrem.processing.files import process_file
from bgrem.report.census import take_census
from bgrem.report.charts import flux_chart, noise_chart
from bgrem.report.document import MOST_MARKS, image_page

SHAPE = (150, 210)
STARS = [(40.0, 30.0), (100.0, 75.5), (170.3, 120.2), (20.0, 110.0)]  # x, y


def starry_sky(level=500.0, noise=5.0):
    """Stars of 100 rms on a flat sky, and a hot pixel of 60 rms at (130, 40) and its neighbours."""
    data = flat_sky(SHAPE, level, noise, seed=3, dtype=float)
    data += gaussian_stars(SHAPE, *np.transpose(STARS), 100 * noise, 1.5)
    data[39:42, 129:132] += 60 * noise
    return data


@pytest.fixture(scope="module")
def parts(toy_model):
    return separate(starry_sky(), model=toy_model)


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "frame.fits"
    header = fits.Header({"BUNIT": "adu", "OBJECT": "<b>M 1</b>", "EXPTIME": 60.0})
    fits.PrimaryHDU(starry_sky().astype(np.float32), header).writeto(path)
    return path


def block(page, name):
    """A piece of data that a page holds."""
    found = re.search(
        rf'<script id="{name}" type="application/json">(.*?)</script>', page, re.DOTALL
    )
    return json.loads(found[1])


def holds(places, x, y):
    return bool(len(places)) and np.hypot(*(places - (x, y)).T).min() < 2


# --- census


def test_what_both_find_is_in_both(parts):
    census = take_census(parts)
    assert all(holds(census.both, x, y) for x, y in STARS)
    assert not any(holds(census.lost, x, y) or holds(census.gained, x, y) for x, y in STARS)
    assert "smoothed sources" in census.recipe


def test_fluxes_before_and_after_are_compared(parts):
    census = take_census(parts)
    bright = census.snr > 30
    assert bright.sum() >= len(STARS)
    ratio = census.on_sources[bright] / census.on_data[bright]
    assert np.all(np.abs(ratio - 1) < 0.2)
    # 100 rms of a Gaussian of 1.5 pixels.
    assert np.median(census.on_data[bright]) == pytest.approx(100 * 2 * np.pi * 1.5**2, rel=0.3)


def test_lost_detections_on_artefacts_are_counted_apart(parts):
    sources = parts.sources.copy()
    sources[30:50, 120:140] = 0
    gone = dict(vars(parts)) | {"sources": sources}
    fields = ("data", "sources", "sky", "mask", "provenance", "uncertainty", "significance")
    without = type(parts)(**{name: gone[name] for name in fields} | {"mask": parts.mask & 0})
    census = take_census(without)
    assert holds(census.lost, 130, 40) and not holds(census.artefacts, 130, 40)
    mask = np.zeros_like(parts.mask)
    mask[40, 130] = ARTEFACT
    census = take_census(type(parts)(**{name: gone[name] for name in fields} | {"mask": mask}))
    assert holds(census.artefacts, 130, 40) and not holds(census.lost, 130, 40)


def test_significance_with_a_known_threshold_is_used(parts):
    plane = np.full(SHAPE, -5.0)
    plane[75, 100] = plane[10, 200] = 3.0
    fields = {name: getattr(parts, name) for name in ("data", "sources", "sky", "mask")}
    provenance = replace(parts.provenance, signif_10=1.0)
    census = take_census(type(parts)(**fields, provenance=provenance, significance=plane))
    assert "BGR_SG10 = 1" in census.recipe
    assert holds(census.both, 100, 75) and holds(census.gained, 200, 10)
    assert holds(census.lost, 40, 30) and len(census.both) + len(census.gained) == 2


@pytest.mark.parametrize("unit", [1e-14, 1e6])
def test_the_unit_does_not_matter(toy_model, unit):
    census = take_census(separate(unit * starry_sky(), model=toy_model))
    assert all(holds(census.both, x, y) for x, y in STARS)
    assert np.isfinite(census.snr).all() and census.snr.max() > 100


def test_a_page_without_detections(toy_model):
    flat = flat_sky((64, 64), 0, 1, dtype=float)
    page = image_page(separate(flat, model=toy_model), name="empty")
    assert "<svg" in page


@pytest.mark.parametrize(("fwhm", "said"), [(None, "assumed"), (2.5, "given")])
def test_the_page_says_where_the_fwhm_is_from(toy_model, fwhm, said):
    flat = flat_sky((64, 64), 0, 1, dtype=float)
    page = image_page(separate(flat, model=toy_model, fwhm=fwhm), name="empty")
    assert f"<dd>{fwhm or 3.0}</dd><dt>FWHM, pixels ({said})</dt>" in page
    assert f"FWHM {fwhm or 3.0} px ({said})" in page


# --- charts


def test_the_charts_are_well_formed():
    from xml.etree import ElementTree

    rng = np.random.default_rng(1)
    for chart in (
        noise_chart(rng.normal(size=1000)),
        noise_chart(np.empty(0)),
        flux_chart(rng.uniform(1, 1e6, 500), rng.normal(1, 3, 500)),
        flux_chart(np.array([np.nan, 3.0]), np.array([1.0, np.inf])),
    ):
        ElementTree.fromstring(chart)
        assert "nan" not in chart and "inf" not in chart


# --- the page


def test_a_page_stands_alone(frame, toy_model):
    before = frame.read_bytes()
    result = process_file(frame, model=toy_model, report=True, plot=True)
    assert frame.read_bytes() == before
    assert result.report == frame.with_name("BGRem_frame.fits.html")
    assert result.plot == frame.with_name("BGRem_frame.fits.png")
    page = result.report.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "url(" not in page
    assert not re.search(r"https?://", page)
    assert "<b>M 1</b>" not in page and "&lt;b&gt;M 1" in page
    for keyword in fits.getheader(result.output)["BGR_*"]:
        assert keyword in page
    view = block(page, "view")
    assert view["shape"] == list(SHAPE)
    assert block(page, "summary")["thumbnail"].startswith("data:image/png;base64,")
    assert sorted(path.name for path in frame.parent.iterdir()) == [
        "BGRem_frame.fits", "BGRem_frame.fits.html", "BGRem_frame.fits.png", "frame.fits",
    ]  # fmt: skip


def test_page_and_file_hold_the_same_sources(frame, toy_model):
    # The level goes to the file, not to the page.
    result = process_file(frame, model=toy_model, report=True, keep_level=True)
    view = block(result.report.read_text(encoding="utf-8"), "view")
    value = np.array(view["codes"], dtype=float)
    picture = read_png(base64.b64decode(view["sources"].split(",")[1]))
    shown = value[picture] * view["rms"]
    sources = fits.getdata(result.output) - view["level"]
    assert np.abs(shown - sources).max() < 0.06 * np.abs(sources).max()
    assert np.median(np.abs(shown - sources)) < 0.1 * view["rms"]


def test_the_page_holds_the_catalogue(frame):
    result = process_file(frame, report=True, catalog=True)
    page = result.report.read_text(encoding="utf-8")
    listed, table = block(page, "catalogue"), QTable.read(result.catalog, hdu=1)
    assert listed["count"] == len(table) == len(listed["rows"])
    assert f"{len(table)} sources" in page
    for name, unit, values in zip(
        listed["names"], listed["units"], np.transpose(listed["rows"]), strict=True
    ):
        assert unit == str(table[name].unit or "")
        assert values.astype(float) == pytest.approx(np.asarray(table[name]), rel=1e-8, nan_ok=True)
    assert "<h2>Completeness</h2>" in page and "<h2>Purity</h2>" in page


def test_without_a_catalogue_the_page_has_none(parts):
    assert 'id="catalogue"' not in image_page(parts, name="frame")


def test_marks_are_limited(monkeypatch, parts):
    monkeypatch.setattr("bgrem.report.document.MOST_MARKS", 2)
    assert MOST_MARKS > 1000
    marks = block(image_page(parts, name="frame"), "view")["marks"]
    assert len(marks["both"]) == 4


def test_large_images_are_averaged_down(monkeypatch, parts):
    monkeypatch.setattr("bgrem.report.document.PICTURE_SIDE", 100)
    page = image_page(parts, name="frame")
    view = block(page, "view")
    assert view["factor"] == 3 and view["noise"] == pytest.approx(1 / 3, rel=0.2)
    assert "means of 3 × 3 pixels" in page


@pytest.mark.parametrize("extended", ["sources", "background"])
def test_wide_light_is_a_map(parts, extended):
    wide = np.linspace(0, 2, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    sky = replace(parts.sky, wide=wide, in_background=extended == "background")
    provenance = replace(parts.provenance, extended=extended)
    page = image_page(replace(parts, sky=sky, provenance=provenance), name="frame")
    *_, shown = maps = block(page, "maps")
    assert [one["id"] for one in maps] == ["background", "error", "rms", "wide"]
    assert shown["title"] == f"Wide light, in the {extended}"
    assert 1.9 * sky.scale < shown["high"] - shown["low"] < 2 * sky.scale


def test_the_error_of_the_background_is_shown(toy_model):
    parts = separate(starry_sky(), model=toy_model, sky="mesh")
    _, error, rms = block(image_page(parts, name="frame"), "maps")
    assert error["id"] == "error" and 0 < error["high"] < rms["low"]


def test_warnings_are_shown(parts):
    assert "light is &lt;gone&gt;" in image_page(parts, name="x", warnings=["light is <gone>"])
    assert 'class="card warnings"' not in image_page(parts, name="x")


def test_a_cube_shows_its_first_plane(tmp_path, toy_model):
    planes = np.stack([starry_sky(), np.full(SHAPE, 7.0), starry_sky(level=0)])
    path = tmp_path / "cube.fits"
    fits.writeto(path, planes.astype(np.float32))
    result = process_file(path, model=toy_model, report=True)
    page = result.report.read_text(encoding="utf-8")
    assert block(page, "view")["level"] == pytest.approx(500, abs=2)
    assert "the first of 2 planes" in page


def test_pages_and_pictures_are_not_overwritten(frame, toy_model):
    for suffix, option in ((".html", "report"), (".png", "plot")):
        there = frame.with_name("BGRem_frame.fits" + suffix)
        there.write_text("mine")
        with pytest.raises(ValueError, match="exists already"):
            process_file(frame, model=toy_model, **{option: True})
        assert there.read_text() == "mine"
        process_file(frame, model=toy_model, **{option: True}, overwrite=True)
        assert there.read_bytes()[:4] != b"mine"
        frame.with_name("BGRem_frame.fits").unlink()
        there.unlink()


# --- the command


def test_a_batch_has_an_index(frame, tmp_path, toy_model_path, capsys):
    night = tmp_path / "night 2"
    night.mkdir()
    (night / "a&b.fits").write_bytes(frame.read_bytes())
    (night / "bad.fits").write_text("no")
    files = [str(frame), str(night / "a&b.fits"), str(night / "bad.fits")]
    assert main(["-f", *files, "--model", toy_model_path, "--report"]) == 1
    page = (tmp_path / "BGRem_index.html").read_text(encoding="utf-8")
    assert page.count("<li>") == 2 and page.count('<img src="data:image/png') == 2
    assert 'href="BGRem_frame.fits.html"' in page
    assert 'href="night%202/BGRem_a%26b.fits.html"' in page
    assert "a&amp;b.fits" in page and "detections" in page
    assert not list(tmp_path.glob(".bgrem-*"))


def test_one_image_has_no_index(frame, toy_model_path):
    assert main(["-f", str(frame), "--model", toy_model_path, "--report", "--quiet"]) == 0
    assert not list(frame.parent.glob("*index.html"))


def test_a_missing_extra_is_said_in_one_sentence(frame, toy_model_path):
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from bgrem.cli.bgrem import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["-f", str(frame), "--model", toy_model_path]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--report"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "pip install 'bgrem[report]'" in done.stderr
    assert not frame.with_name("BGRem_frame.fits").exists()
    subprocess.run([sys.executable, "-c", code, *arguments, "--plot"], check=True)
    assert frame.with_name("BGRem_frame.fits.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_write_leaves_nothing(frame, monkeypatch, tmp_path):
    from bgrem.report import pages

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pages, "os", SimpleNamespace(replace=full))
    with pytest.raises(OSError, match="No space"):
        pages.write_whole(tmp_path / "page.html", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["frame.fits"]
