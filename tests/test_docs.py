"""The snippets of the documentation run as they stand, and its pages hold what they promise."""

import argparse
import doctest
import importlib
import re
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("galsim")

import bgrem
from bgrem.catalogue.source_measurement import FLAG_BITS
from bgrem.catalogue.table import CATALOGUE_COLUMNS
from bgrem.network.significance_constants import SignificanceConstants
from bgrem.simulate import Scene, draw
from bgrem.simulate.scene import EXTENDED

DOCS = Path(__file__).resolve().parents[1] / "docs"
COMMANDS = ("bgrem", "undo", "simulate", "train", "evaluate")


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


@pytest.mark.parametrize("title", ["The catalogue", "SEP", "photutils"])
def test_catalogues(title, sky):
    pytest.importorskip("scipy" if title == "The catalogue" else title.lower())
    code = RECIPES[title]
    names = {"data": sky.data}
    exec(code, names)  # noqa: S102 - it is the documentation's own
    if title != "photutils":
        x, y, flux = names["x"], names["y"], names["flux"]
    else:
        x, y = np.array(names["places"]).T
        flux = np.array(names["table"]["aperture_sum"])
    # The brightest place of a large galaxy is one of its knots.
    bright = sky.truth[(sky.truth["snr"] > 30) & (sky.truth["kind"] != EXTENDED)]
    distance = np.hypot(bright["x"][:, None] - x, bright["y"][:, None] - y)
    assert (distance.min(axis=1) < 2).mean() > 0.9
    # A circle of 1 FWHM radius holds 1 - (1 + 1 / 0.981**2)**-2 of a Moffat profile of beta 3; the catalogue has all.
    ratio = flux[distance.argmin(axis=1)] / bright["flux"]
    part = 1.0 if title == "The catalogue" else 0.76
    assert np.median(ratio) == pytest.approx(part, abs=0.05)


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


@pytest.mark.parametrize("page", ["start.rst", "masks.rst", "uncertainty.rst", "catalogue.rst"])
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
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


@pytest.mark.parametrize("module", ["bgrem.interfaces.removal", "bgrem.interfaces.background2d"])
def test_the_examples_of_the_api_are_tested(module):
    assert module in EXAMPLES


@pytest.mark.parametrize("module", EXAMPLES)
def test_the_examples_of_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted and not result.failed


def test_all_recipes_are_present():
    assert list(RECIPES) == ["The catalogue", "SEP", "photutils", "ccdproc", "DS9"]


def test_every_page_is_in_the_contents():
    pages = {page.stem: page.read_text(encoding="utf-8") for page in DOCS.glob("*.rst")}
    listed = list(chain.from_iterable(map(contents, pages.values())))
    assert sorted(listed) == sorted(pages.keys() - {"index"})


def contents(page):
    """The pages that the toctrees of a page list, written NAME or Title <NAME>."""
    for block in re.findall(r"\.\. toctree::\n((?:   .*\n|\n)+)", page):
        for line in filter(None, map(str.strip, block.splitlines())):
            if not line.startswith(":"):
                yield re.sub(r".*<(.+)>", r"\1", line)


def test_documentation_opens_with_four_doors():
    index = (DOCS / "index.rst").read_text(encoding="utf-8")
    doors = re.findall(r":link: (\w+)", index)
    assert doors == ["start", "guide", "reference", "measurements"] == list(contents(index))


@pytest.fixture
def rows_of(monkeypatch):
    """Of a command: the rows that the page of options shows."""
    monkeypatch.syspath_prepend(str(DOCS))
    page = importlib.import_module("parser_rows")

    def rows(command):
        groups = page.option_groups(page.parser_of(command))
        return list(chain.from_iterable(rows for _, rows in groups))

    return rows


@pytest.mark.parametrize("command", COMMANDS)
def test_option_table_has_every_option(command, rows_of):
    parser = importlib.import_module(f"bgrem.cli.{command}").make_parser()
    actions = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
    names = chain.from_iterable(action.option_strings for action in actions)
    shown = [name.split()[0] for names, _ in rows_of(command) for name in names]
    assert sorted(names) == sorted(name for name in shown if name.startswith("-"))
    assert all(meaning for _, meaning in rows_of(command))
    assert f".. option-table:: {command}\n" in (DOCS / "options.rst").read_text(encoding="utf-8")


def test_option_table_renders_every_row(rows_of):
    nodes = pytest.importorskip("docutils.nodes")
    rows = rows_of("bgrem")
    shown = importlib.import_module("option_table").table(rows)
    literals = [literal.astext() for literal in shown.findall(nodes.literal)]
    assert literals == [name for names, _ in rows for name in names]


def test_api_page_lists_the_public_names():
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    names = re.findall(r"^\.\. auto\w+:: bgrem\.([\w.]+)$", page, re.MULTILINE)
    assert len(names) == len(set(names))
    assert {name for name in names if "." not in name} == set(bgrem.__all__)
    for name in names:
        *folder, last = name.split(".")
        assert getattr(importlib.import_module(".".join(["bgrem", *folder])), last)


def test_constants_of_significance_are_those_of_the_code():
    page = (DOCS / "how_it_works.rst").read_text(encoding="utf-8")
    shown = {}
    for names, values in re.findall(r"     - (``[a-z_`, ]+``)\n     - (.+)\n", page):
        names = re.findall(r"``(\w+)``", names)
        shown |= dict(zip(names, map(float, values.split(", ")), strict=True))
    assert shown == asdict(SignificanceConstants())


def test_columns_of_the_catalogue_are_those_of_the_code():
    page = (DOCS / "catalogue.rst").read_text(encoding="utf-8")
    shown = dict(re.findall(r"   \* - ([\w]+)\n     - .*\n     - (.+)\n", page))
    assert {name: shown.get(name) for name in CATALOGUE_COLUMNS} == {
        name: column.description for name, column in CATALOGUE_COLUMNS.items()
    }
    bits = dict(re.findall(r"   \* - (\d+)\n     - (.+)\n", page))
    assert bits == {str(bit): meaning for bit, meaning in FLAG_BITS.items()}


def test_pages_use_public_paths_only():
    deep = r"\bbgrem(?:\.[a-z]\w*){2,}\.\w+|from bgrem\.\w+\.\w+ import"
    root = DOCS.parent
    pages = [*DOCS.glob("*.rst"), root / "README.md", root / "CHANGES.rst"]
    assert not {page.name: found for page in pages if (found := re.findall(deep, page.read_text()))}


def test_readme_is_one_screen_and_a_half():
    readme = (DOCS.parent / "README.md").read_bytes()
    assert 4000 <= len(readme) <= 6000
    links = re.findall(r"\]\(([\w./]+)\)", readme.decode())
    assert all((DOCS.parent / link).exists() for link in links)


def test_readme_example_runs(sky, tmp_path, monkeypatch):
    from astropy.io import fits

    monkeypatch.chdir(tmp_path)
    fits.writeto("image.fits", sky.data)
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    names = {}
    exec(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1], names)  # noqa: S102
    assert len(names["table"]) >= len(names["sure"]) > 0


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
