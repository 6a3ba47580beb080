"""The snippets of the documentation run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("galsim")

from bgrem.simulate import Scene, draw

DOCS = Path(__file__).resolve().parents[1] / "docs"


def snippets(page):
    """The blocks of Python code of a page, by the section that they stand in."""
    text = (DOCS / page).read_text()
    found = re.findall(r"^(\w+)\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", text, re.MULTILINE | re.DOTALL)
    for title, body in found:
        for block in re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", body):
            yield title, "\n".join(line[4:] for line in block.splitlines())


@pytest.fixture(scope="module")
def sky():
    scene = Scene(shape=(384, 384), fwhm=4.0, stars=800.0, galaxies=0.0)
    return draw(scene, np.random.default_rng([20261122, 9]))


@pytest.mark.parametrize(("title", "code"), list(snippets("recipes.rst")), ids=lambda v: v[:9])
def test_recipes(title, code, sky):
    pytest.importorskip(title.lower())
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


def test_both_recipes_are_there():
    assert [title for title, _ in snippets("recipes.rst")] == ["SEP", "photutils"]
