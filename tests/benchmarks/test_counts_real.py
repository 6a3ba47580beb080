"""Counts models on real maps: halves, likelihood, published models and catalogues, and the command on made maps."""

import importlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

ROOT = Path(__file__).resolve().parents[2]
QUALITY = ROOT / "benchmarks" / "quality"
REAL = Path(os.environ.get("COUNTS", ROOT.parent / "shared" / "data" / "counts"))
PIXEL, SIGMA = 0.05, 2.0
SOURCES = (("a", 0.5, 0.3, 40.0), ("b", -0.7, -0.4, 60.0))  # name, GLON, GLAT, counts
EXPOSURE = 3e11


@pytest.fixture
def real(monkeypatch):
    monkeypatch.syspath_prepend(str(QUALITY))
    return importlib.import_module("counts_real")


@pytest.fixture
def maps(monkeypatch):
    monkeypatch.syspath_prepend(str(QUALITY))
    return importlib.import_module("counts_fields")


def gaussian(side, sigma, x=None, y=None, shape=None):
    ny, nx = shape or (side, side)
    v, u = np.mgrid[:ny, :nx]
    x, y = (nx // 2 if x is None else x), (ny // 2 if y is None else y)
    image = np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))
    return image / (2 * np.pi * sigma**2)


def wcs_of(shape, longitude=0.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["GLON-CAR", "GLAT-CAR"], [-PIXEL, PIXEL]
    wcs.wcs.crval = [longitude, 0.0]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    return wcs


def write_catalogue(path, extended=()):
    """A table with the columns of 3FHL that are used; the last sources are extended."""
    names = [f"{name} disc" if name in extended else "" for name, *_ in SOURCES]
    rows = {
        "Source_Name": [name for name, *_ in SOURCES], "Extended_Source_Name": names,
        "GLON": [lon % 360 for _, lon, *_ in SOURCES], "GLAT": [lat for *_, lat, _ in SOURCES],
        "Flux": [counts / EXPOSURE for *_, counts in SOURCES],
        "PowerLaw_Index": [2.5] * len(SOURCES), "Signif_Avg": [9.0] * len(SOURCES),
    }  # fmt: skip
    discs = Table({"Source_Name": [f"{name} disc" for name in extended] or ["none"],
                   "Model_SemiMajor": [0.4] * max(len(extended), 1)})  # fmt: skip
    hdus = [fits.BinTableHDU(Table(rows)), fits.BinTableHDU(discs, name="ExtendedSources")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)


@pytest.fixture
def folder(tmp_path, maps):
    """A field of the Galactic centre with two sources, and a second map without anything."""
    shape = (60, 80)
    wcs = wcs_of(shape)
    psf = gaussian(21, SIGMA)
    background = 0.3 + 0.5 * np.exp(-(((np.mgrid[:60, :80][0] - 30) / 8.0) ** 2))
    write_catalogue(tmp_path / maps.SOURCES_3FHL)
    exposure = np.full(shape, EXPOSURE)
    light = maps._light(tmp_path / maps.SOURCES_3FHL, wcs, exposure, psf, maps.ENERGIES_3FHL)
    counts = np.random.default_rng(5).poisson(light + background)
    planes = {"counts": counts, "background": background, "exposure": exposure, "psf": psf}
    for name, plane in planes.items():
        path = tmp_path / f"{maps.CENTRE}-{name}.fits.gz"
        fits.writeto(path, np.asarray(plane, np.float32), wcs.to_header())
    fits.writeto(tmp_path / maps.SIMULATED, counts.astype(np.int32), wcs.to_header())
    return tmp_path


def test_halves_add_up_and_are_independent(real):
    counts = np.random.default_rng(1).poisson(3.0, (1, 300, 300))
    first, second = real.thinned(counts, np.random.default_rng(2))
    assert np.array_equal(first + second, counts) and first.min() >= 0 and second.min() >= 0
    assert first.mean() == pytest.approx(1.5, abs=0.02)
    # A half of a Poisson map is a Poisson map, and knows nothing of the other.
    assert first.var() == pytest.approx(1.5, rel=0.03)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.015


def test_the_likelihood_prefers_the_truth_and_is_finite(real):
    rng = np.random.default_rng(3)
    truth = (0.2 + 5.0 * gaussian(0, 3.0, shape=(60, 60)) * 50)[None]
    counts = rng.poisson(truth)
    constant = np.full_like(truth, counts.mean())
    assert real.log_likelihood(counts, constant) == pytest.approx(0.0, abs=1e-12)
    best = real.log_likelihood(counts, truth)
    assert best > real.log_likelihood(counts, 1.2 * truth) > 0
    assert best > real.log_likelihood(counts, np.roll(truth, 3, axis=2))
    assert np.isfinite(real.log_likelihood(counts, np.zeros_like(truth)))


def test_published_models_are_scaled_to_the_map(real):
    rng = np.random.default_rng(4)
    flat, bump = np.ones((2, 50, 50)), np.stack([gaussian(50, 5.0)] * 2)
    truth = np.array([3.0, 6.0])[:, None, None] * flat
    truth += np.array([500.0, 100.0])[:, None, None] * bump
    scaled = real.scaled_to(rng.poisson(truth), [flat, bump])
    assert scaled.sum(axis=(1, 2)) == pytest.approx(truth.sum(axis=(1, 2)), rel=0.03)
    assert scaled[:, 25, 25] == pytest.approx(truth[:, 25, 25], rel=0.12)
    assert scaled[:, 0, 0] == pytest.approx(truth[:, 0, 0], rel=0.05)


def test_sources_of_a_catalogue_have_their_published_light(maps, tmp_path):
    shape, psf = (60, 80), gaussian(21, SIGMA)
    path = tmp_path / "3fhl.fits"
    write_catalogue(path, extended=("b",))
    exposure = np.full(shape, EXPOSURE)
    for longitude in (0.0, 360.0):
        wcs = wcs_of(shape, longitude)
        table = maps.catalogue_of(path, wcs, shape)
        assert list(table["x"]) == pytest.approx([29.5, 53.5])
        assert list(table["y"]) == pytest.approx([35.5, 21.5])
        assert list(table["radius"]) == [0.0, 0.4]
        light = maps._light(path, wcs, exposure, psf, maps.ENERGIES_3FHL)
        assert light.sum() == pytest.approx(100.0, rel=0.01)
        image = 40 * gaussian(0, SIGMA, x=29.5, y=35.5, shape=shape)
        assert light[31:41, 25:35] == pytest.approx(image[31:41, 25:35], rel=0.03)
        # A disc of 8 pixels is as bright everywhere as its light over its area.
        assert light[18:25, 51:57] == pytest.approx(60 / (np.pi * 64), rel=0.06)
    # A power law of index 2.5 has 10^-1.5 of its photons above ten times the energy.
    above = maps._light(path, wcs, exposure, psf, (1e5, 1e6)).sum()
    assert above == pytest.approx(100 * (10**-1.5 - 100**-1.5) / (1 - 100**-1.5), rel=0.01)


def test_sources_outside_the_map_are_left_out(maps, tmp_path):
    write_catalogue(tmp_path / "3fhl.fits")
    wcs = wcs_of((60, 80), longitude=120.0)
    assert len(maps.catalogue_of(tmp_path / "3fhl.fits", wcs, (60, 80))) == 0


def test_what_is_known_of_a_map_is_given_relative(maps, folder):
    centre, other = maps.real_fields(folder)
    assert centre.given["exposure"].mean() == pytest.approx(1.0)
    assert centre.given["template"].mean() == pytest.approx(1.0)
    assert centre.psf.sum() == pytest.approx(1.0)
    assert centre.catalogue.sum() == pytest.approx(100.0, rel=0.01)
    assert other.name == "gammapy's simulation" and set(other.given.values()) == {None}


def truth_teller(maps, folder):
    """Separates any map as the field that was drawn, scaled to its photons."""
    field = maps.galactic_centre(folder)

    def separate(counts, **given):
        share = counts.sum() / field.counts.sum()
        return SimpleNamespace(
            sources=share * field.catalogue, background=share * field.background,
            significance=np.log(1e-3 + field.catalogue[0]),
        )  # fmt: skip

    return separate


def test_the_command_on_made_maps(real, maps, folder, monkeypatch, tmp_path, toy_model):
    teller = truth_teller(maps, folder)
    monkeypatch.setattr(real, "separation_of", lambda options: (toy_model, teller))
    monkeypatch.setattr(real, "has_gammapy", lambda: False)
    path = tmp_path / "out.json"
    real.main(["--maps", str(folder), "--splits", "2", "--quiet", "--json", str(path)])
    tables = json.loads(path.read_text())["tables"]
    centre = {row["method"]: row for row in tables[next(iter(tables))]
              if row["map"].startswith("Galactic")}  # fmt: skip
    assert {"bgrem", "bgrem, nothing given", "best Gaussian", "published background"} <= set(centre)
    gain = {name: float(row["gain"].split()[0]) for name, row in centre.items()}
    assert gain["bgrem"] > gain["best Gaussian"] > 0
    assert gain["published background + 3FHL"] == pytest.approx(gain["bgrem"], abs=0.02)
    assert gain["published background + 3FHL"] > gain["published background"]
    over = float(centre["bgrem"]["over best Gaussian"].split()[0])
    assert over == pytest.approx(gain["bgrem"] - gain["best Gaussian"], abs=2e-4)
    rows = tables["Galactic centre: sources of 3FHL"]
    assert [row["bgrem"] for row in rows] == [2] * len(rows)
    assert rows[0]["Li & Ma"] >= 1


def test_detections_in_known_sources_are_not_scored(real, maps, folder):
    write_catalogue(folder / maps.SOURCES_3FHL, extended=("b",))
    field = maps.galactic_centre(folder)
    truth, degrees = real.centre_truth(field, folder)
    assert truth.counted.sum() == 1 and degrees == pytest.approx(60 * 80 * PIXEL**2)
    assert not truth.blank[22, 53] and truth.blank[35, 29]
    write_catalogue(folder / maps.SOURCES_3FGL)
    truth, _ = real.centre_truth(field, folder)
    assert not truth.blank[35, 29] and truth.counted.sum() == 1


def test_a_folder_without_maps_is_refused(real, tmp_path, monkeypatch):
    monkeypatch.setattr(real, "separation_of", lambda options: (None, None))
    with pytest.raises(SystemExit, match="no map"):
        real.main(["--maps", str(tmp_path), "--quiet"])


@pytest.mark.skipif(not (REAL / "fermigc_ccube_00.fits").exists(), reason="no real counts maps")
def test_the_published_model_of_the_real_cube_is_that_of_its_photons(maps, real):
    whole, bands = maps._cube(REAL)
    assert whole.counts.sum() == bands.counts.sum() == 26802
    assert bands.psf.sum(axis=(1, 2)) == pytest.approx(np.ones(4))
    # The PSF narrows with the energy.
    assert np.all(np.diff(bands.psf.max(axis=(1, 2))) > 0)
    # Diffuse emission and sources in physical units, without any scaling.
    model = bands.background + bands.catalogue
    assert model.sum(axis=(1, 2)) == pytest.approx(bands.counts.sum(axis=(1, 2)), rel=0.15)
    constant = np.ones_like(model) * bands.counts.mean(axis=(1, 2), keepdims=True)
    gains = [real.log_likelihood(bands.counts, one) for one in (model, bands.background, constant)]
    assert gains[0] > gains[1] + 0.03 > gains[2] + 0.2
