"""The snippets of the documentation run as they stand."""

import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("galsim")

from bgrem.simulate import Scene, draw

DOCS = Path(__file__).resolve().parents[1] / "docs"


def snippets(page):
    """The blocks of Python code of a page, by the section that they stand in."""
    text = (DOCS / page).read_text(encoding="utf-8")
    titles = r"^([^\n]+)\n[-=]{3,}\n"
    found = re.findall(rf"{titles}(.*?)(?={titles}|\Z)", text, re.MULTILINE | re.DOTALL)
    for title, body, _ in found:
        for block in re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", body):
            yield title, "\n".join(line[4:] for line in block.splitlines())


@pytest.fixture(scope="module")
def sky():
    scene = Scene(shape=(384, 384), fwhm=4.0, stars=800.0, galaxies=0.0)
    return draw(scene, np.random.default_rng([20261122, 9]))


RECIPES = dict(snippets("recipes.rst"))


@pytest.mark.parametrize("title", ["SEP", "photutils"])
def test_catalogues(title, sky):
    pytest.importorskip(title.lower())
    code = RECIPES[title]
    names = {"data": sky.data}
    exec(code, names)  # noqa: S102 - it is the documentation's own
    if title == "SEP":
        x, y, flux = names["x"], names["y"], names["flux"]
    else:
        x, y = np.array(names["places"]).T
        flux = np.array(names["table"]["aperture_sum"])
    bright = sky.truth[sky.truth["snr"] > 30]
    distance = np.hypot(bright["x"][:, None] - x, bright["y"][:, None] - y)
    assert (distance.min(axis=1) < 2).mean() > 0.9
    # A circle of 1 FWHM radius holds 1 - (1 + 1 / 0.981**2)**-2 of a Moffat profile of beta 3.
    ratio = flux[distance.argmin(axis=1)] / bright["flux"]
    assert np.median(ratio) == pytest.approx(0.76, abs=0.05)


def test_ccdproc(sky):
    pytest.importorskip("ccdproc")
    names = {"data": sky.data, "flat": np.full(sky.data.shape, 2.0)}
    exec(RECIPES["ccdproc"], names)  # noqa: S102 - it is the documentation's own
    assert names["sources"].unit == names["subtracted"].unit == "adu"
    level, rms = names["sky"].background_median.value, names["sky"].background_rms_median.value
    assert abs(np.median(names["subtracted"].data)) < rms < level


def test_regions_of_ds9_count_from_one(sky, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(RECIPES["DS9"], {"data": sky.data})  # noqa: S102 - it is the documentation's own
    lines = (tmp_path / "peaks.reg").read_text().splitlines()
    assert lines[0] == "image"
    x, y = np.array([re.findall(r"[\d.]+", line)[:2] for line in lines[1:]], dtype=float).T
    bright = sky.truth[sky.truth["snr"] > 100]
    offset_x, offset_y = x - bright["x"][:, None], y - bright["y"][:, None]
    nearest = np.hypot(offset_x - 1, offset_y - 1).argmin(axis=1)
    rows = np.arange(len(bright))
    assert np.median(offset_x[rows, nearest]) == pytest.approx(1, abs=0.3)
    assert np.median(offset_y[rows, nearest]) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("page", ["start.rst", "masks.rst", "uncertainty.rst"])
def test_pages_run_from_top_to_bottom(page, sky, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"data": sky.data, "weight": np.ones(sky.data.shape), "gain": 1.0}
    names |= {"quality": np.zeros(sky.data.shape, int), "x": [50.0], "y": [60.0]}
    names["quality"][3, 4] = 16
    for _, code in snippets(page):
        exec(code, names)  # noqa: S102 - it is the documentation's own
    parts = names["parts"]
    assert np.allclose(parts.sources + parts.background + parts.noise, sky.data, rtol=1e-5)
    if page == "masks.rst":
        assert names["unusable"][3, 4] and not names["artefacts"].all()


EXAMPLES = [
    ".".join(path.relative_to(DOCS.parent).with_suffix("").parts)
    for path in sorted((DOCS.parent / "bgrem").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", ["bgrem.removal", "bgrem.background2d"])
def test_the_examples_of_the_api_are_tested(module):
    assert module in EXAMPLES


@pytest.mark.parametrize("module", EXAMPLES)
def test_the_examples_of_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted and not result.failed


def test_all_recipes_are_there():
    assert list(RECIPES) == ["SEP", "photutils", "ccdproc", "DS9"]


def test_every_page_is_in_the_contents():
    contents = (DOCS / "index.rst").read_text().split(":maxdepth: 2")[1].split()
    assert sorted(contents) == sorted(
        page.stem for page in DOCS.glob("*.rst") if page.stem != "index"
    )


def test_the_pictures_are_those_of_the_sample_frame():
    picture = (DOCS / "pictures" / "before_after.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 200_000


def test_the_notebook_runs():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    path = DOCS.parent / "examples" / "sample.ipynb"
    assert path.stat().st_size < 200_000
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        book, timeout=300, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    assert book.cells[-1].outputs[0].text.startswith("sources brighter than S/N 30")
