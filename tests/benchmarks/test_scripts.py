"""The commands of `benchmarks/quality`: run on small frames, and their figures on known answers."""

import importlib
import json
import tomllib
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("galsim")
from bgrem.detection.peaks import detection_table
from bgrem.evaluate.froc import froc
from bgrem.evaluate.injection_report import InjectionReport
from bgrem.evaluate.methods import simulated_frame
from bgrem.evaluate.tables import text_table, write_json
from bgrem.evaluate.truth import truth_of_catalogue
from bgrem.inference.model import load_model
from bgrem.network.calibration import Calibration
from bgrem.simulate import Scene, draw

QUALITY = Path(__file__).resolve().parents[2] / "benchmarks" / "quality"


@pytest.fixture
def command(monkeypatch):
    """Imports a command of the folder by its name."""
    monkeypatch.syspath_prepend(str(QUALITY))
    return importlib.import_module


def run(module, model, folder, *arguments):
    """The JSON file that a command writes."""
    path = folder / "out.json"
    module.main(["--model", model, "--threads", "1", "--quiet", "--json", str(path), *arguments])
    return json.loads(path.read_text())


def small_sky(seed=1, side=256, **fields):
    return draw(Scene(shape=(side, side), **fields), np.random.default_rng([5, seed]))


def parts_of(sky, sources=None, uncertainty=None):
    """A separation that knows the truth, or is told what to say."""
    sources = sky.sources if sources is None else sources
    return SimpleNamespace(
        sources=sources, background=sky.background, noise=sky.data - sky.background - sources,
        rms=sky.rms, mask=np.zeros(sky.mask.shape, np.uint8), uncertainty=uncertainty,
        significance=np.where(sky.sources > sky.rms, sky.sources / sky.rms, -9.0),
        provenance={"fwhm": sky.scene.fwhm},
    )  # fmt: skip


# ---- tables ----------------------------------------------------------------------------


def test_a_table_is_aligned_and_marks_gaps():
    text = text_table([{"name": "a", "value": 1.23456}, {"name": "bcd", "value": np.nan}])
    assert text.splitlines() == ["name  value", "a     1.235", "bcd       -"]


def test_json_knows_numpy(tmp_path):
    path = write_json(tmp_path / "new" / "a.json", {"x": (np.float32(0.5), np.nan, np.arange(2))})
    assert json.loads(path.read_text()) == {"x": [0.5, None, [0, 1]]}


# ---- grid ------------------------------------------------------------------------------


def test_the_grid_is_frozen_to_the_last_field(command):
    grid = command("grid")
    settings = tomllib.loads(grid.FROZEN.read_text())
    said = set(settings["scene"]) | {"shape", "fwhm"}
    # What the file does not say is absent, so that nothing new enters the frozen cells.
    assert not any(field.default for field in fields(Scene) if field.name not in said)
    cells = grid.read_grid(grid.FROZEN)
    assert len(cells) == 7 * 8 == len({cell.stream for cell in cells})
    crowded = [cell.scene.stars for cell in cells if cell.sky == "crowded"]
    assert crowded[0] > crowded[-1] and crowded == settings["sky"]["crowded"]["stars"]
    empty = [cell.scene for cell in cells if cell.sky == "empty"]
    assert all(scene.stars == scene.galaxies == scene.nebula == 0 for scene in empty)


def test_a_cell_does_not_hang_on_its_neighbours(command, tmp_path):
    grid = command("grid")
    short = tmp_path / "short.toml"
    text = grid.FROZEN.read_text()
    start, end = text.index("[sky.white]"), text.index("[sky.crowded]")
    short.write_text(text[:start] + text[end:])
    there = {(cell.sky, cell.fwhm): cell for cell in grid.read_grid(grid.FROZEN)}
    for cell in grid.read_grid(short):
        assert there[cell.sky, cell.fwhm] == cell


def test_grid(command, toy_model_path, tmp_path):
    pytest.importorskip("matplotlib")
    grid = command("grid")
    arguments = ["--jobs", "1", "--side", "224", "--fwhm", "3", "--sky", "white", "empty"]
    result = run(grid, toy_model_path, tmp_path, *arguments, "--output-dir", str(tmp_path))
    white, empty = result["cells"]
    assert white["rate"] == 300.0 and white["sources"] > 50
    best = max(white[name] for name in grid.SEXTRACTOR)
    assert white["ratio to SExtractor's best"] == pytest.approx(white["bgrem"] / best)
    # White noise: nothing linear beats the matched filter, and the toy is no good.
    assert white["ratio to the matched filter"] < 1.03
    assert best < 1.05 * white["matched filter"]
    assert empty["sky"] == "empty" and empty["sextractor default at 1.5"] > 0
    assert (tmp_path / "grid.png").stat().st_size > 10_000


def test_a_cell_too_small_to_judge_is_refused(command, toy_model_path):
    grid = command("grid")
    cell = grid.read_grid(grid.FROZEN, side=64)[0]
    with pytest.raises(ValueError, match="too few"):
        grid.row_of(cell, model=toy_model_path, threshold=0.0)


# ---- flux ------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_stars_are_measured_to_what_the_sources_hold(command, monkeypatch, factor):
    flux = command("flux")
    sky = small_sky(2, side=384, **flux.STARS)
    parts = parts_of(sky, factor * sky.sources)
    monkeypatch.setattr(flux, "separate", lambda *_, **__: parts)
    stars = flux.star_fluxes(sky, None, threshold=3.0)
    for name in ("psf on sources", "aperture on sources"):
        snr, measured, true = stars[name]
        assert snr.size > 20 and measured / true == pytest.approx(factor, rel=1e-4)
    # What is measured on the original does not hang on the sources' scale.
    snr, measured, true = stars["original"]
    assert np.median((measured / true)[snr > 30]) == pytest.approx(1.0, abs=0.02)
    tables = flux.ratios(stars, "true")
    rows = tables["stars by true flux: median of measured over true"]
    known = [row["psf on sources"] for row in rows if np.isfinite(row["psf on sources"])]
    assert known and known == pytest.approx(len(known) * [factor], rel=1e-4)


def test_bins_of_the_measured_flux(command):
    flux = command("flux")
    stars = {"half": np.array([[8.0] * 6, [4.0] * 6, [8.0] * 6])}
    by_true = flux.ratios(stars, "true")["stars by true flux: number"]
    by_measured = flux.ratios(stars, "measured")["stars by measured flux: number"]
    assert {row["S/N"]: row["half"] for row in by_true if row["half"]} == {"5-10": 6}
    assert {row["S/N"]: row["half"] for row in by_measured if row["half"]} == {"3-5": 6}


def test_local_sky_is_the_median_of_the_ring(command):
    flux = command("flux")
    image = np.full((60, 60), 2.0)
    image[25:36, 25:36] = 50.0
    level = flux.ring_medians(image, np.array([30.2, 1.0]), np.array([29.8, 2.0]), 9.0, 15.0)
    assert level.tolist() == [2.0, 2.0]


def test_flux(command, toy_model_path, tmp_path, monkeypatch):
    flux = command("flux")
    monkeypatch.setattr(flux, "RADII", (2.0, 8.0))
    arguments = ["--side", "256", "--frames", "1", "--galaxy-frames", "1", "--profile-side", "192"]
    result = run(flux, toy_model_path, tmp_path, *arguments, "--threshold", "1")
    tables = result["tables"]
    assert len(tables["exponential discs by half-light radius"]) == 4
    galaxy = tables["profile of the galaxy, sky rms"]
    # What is not in one part is in another.
    for ring in galaxy:
        parts = ring["sources"] + ring["background"] + ring["noise"]
        assert parts == pytest.approx(ring["true"], abs=0.15 + 0.02 * ring["true"])
    # SExtractor's mesh takes light from the galaxy, so it never holds more than all of it.
    assert 0.3 < galaxy[0]["SExtractor"] / galaxy[0]["true"] < 1.1
    (whole, _) = tables["whole profiles, measured over true"]
    assert 0.1 < whole["SExtractor auto"] < 1.1 and 0 < whole["sources"] < 1.5
    pytest.importorskip("matplotlib")
    assert 10_000 < (tmp_path / "out.png").stat().st_size < 100_000


# ---- blank -----------------------------------------------------------------------------


def test_half_complete(command):
    blank = command("blank")
    assert blank.half_complete([3, 4, 5], [0.0, 0.25, 0.75]) == pytest.approx(4.5)
    assert np.isnan(blank.half_complete([3, 4, 5], [0.0, 0.1, 0.4]))
    assert blank.half_complete([3, 4, 5], [0.6, 0.9, 1.0]) == 3


def test_an_invented_source_is_measured(command, monkeypatch):
    blank = command("blank")

    def separate(data, **_):
        sources = np.zeros(data.shape)
        sources[40, 50] = 30.0
        rms = np.full(data.shape, 2.0)
        return SimpleNamespace(
            sources=sources, rms=rms, significance=sources - 9, mask=np.zeros(data.shape, np.uint8),
            provenance={"fwhm": np.nan},
        )  # fmt: skip

    monkeypatch.setattr(blank, "separate", separate)
    score, worst, pixels = blank.look(blank.QUIET, 96, None, np.random.default_rng(0))
    offsets = np.arange(-5, 6)
    circle = np.count_nonzero(np.hypot(offsets[:, None], offsets) <= blank.FWHM)
    assert worst["S/N"] == pytest.approx(30.0 / (2.0 * circle**0.5))
    assert worst["peak, rms"] == 15.0
    assert score.max() == 21.0 and pixels == 96**2


def test_blank(command, toy_model_path, tmp_path):
    blank = command("blank")
    arguments = ["--mpix", "0.1", "--side", "192", "--star-frames", "1", "--threshold", "2"]
    tables = run(blank, toy_model_path, tmp_path, *arguments)["tables"]
    rows = tables["empty sky, and completeness of stars by S/N"]
    # The higher the threshold, the fewer are found, of what is there and of what is not.
    for name in ("quiet: false/Mpix", "detector: false/Mpix", "S/N 5", "S/N 12"):
        found = [row[name] for row in rows]
        assert found == sorted(found, reverse=True)
    assert rows[0]["quiet: false/Mpix"] > 100 and rows[0]["S/N 12"] == 1.0
    assert tables["recommended"][0]["threshold"] == 2.0
    (title,) = (title for title in tables if title.startswith("largest invented source in"))
    assert [row["sky"] for row in tables[title]] == ["quiet", "detector"]
    pytest.importorskip("matplotlib")
    assert 5_000 < (tmp_path / "out.png").stat().st_size < 100_000


# ---- level -----------------------------------------------------------------------------


def test_cells_without_enough_good_pixels_have_no_level(command):
    level = command("level")
    image = np.full((192, 192), 0.5)
    image[:5, :5] = 1e6
    good = np.ones(image.shape, bool)
    good[:96, 96:] = False
    means = level.cell_means(image, good)
    assert np.isnan(means[0, 1])
    assert means[[0, 1, 1], [0, 0, 1]] == pytest.approx(0.5)


def test_level(command, toy_model_path, tmp_path, monkeypatch):
    level = command("level")
    kinds = {name: level.SKIES[name] for name in ("empty", "cluster")}
    monkeypatch.setattr(level, "SKIES", kinds)
    arguments = ["--frames", "1", "--side", "256"]
    (rows,) = run(level, toy_model_path, tmp_path, *arguments)["tables"].values()
    assert [row["sky"] for row in rows] == ["empty", "cluster"]
    for row in rows:
        assert min(row["bgrem"], row["bgrem --sky mesh"], row["SExtractor"]) > 0
        assert row["bgrem / mesh"] == pytest.approx(row["bgrem"] / row["bgrem --sky mesh"])


def test_level_of_the_truth_is_not_missed(command, monkeypatch):
    level = command("level")
    sky = small_sky(8)
    monkeypatch.setattr(level, "separate", lambda *_, **__: parts_of(sky))
    methods = {"higher": lambda *_: sky.background + 0.5 * sky.rms}
    missed = level.missed(sky, None, methods)
    assert missed[level.MESH] < 0.1
    assert missed["higher"] == pytest.approx(0.5, abs=0.1)


# ---- error of the background ---------------------------------------------------------------


def test_pulls_of_a_known_background_error(command):
    pulls = command("background_error")
    error = np.random.default_rng(9).normal(0, 1, (64, 64)).repeat(16, 0).repeat(16, 1)
    good, sigma = np.ones(error.shape, bool), np.full(error.shape, 2.0)
    good[:, :20] = False
    assert pulls.mean_squared_pull(error, sigma, good, 16) == pytest.approx(0.25, abs=0.02)
    # Means over 16 independent errors are a quarter as large.
    assert pulls.mean_squared_pull(error, sigma, good, 64) == pytest.approx(1 / 64, rel=0.3)
    assert np.isnan(pulls.mean_squared_pull(error, sigma, ~good, 256))
    frames = [{"16 px": value, "error": 0.1, "BKGERR": 0.1} for value in (1.0, 4.0, 9.0, np.nan)]
    row = pulls.row_of(frames, 16)
    assert (row["n"], row["median"], row["factor"], row["within"]) == (3, 4.0, 2.0, False)


def test_background_error(command, toy_model_path, tmp_path):
    arguments = ["--frames", "2", "--sides", "128"]
    tables = run(command("background_error"), toy_model_path, tmp_path, *arguments)["tables"]
    rows = tables["mean squared pull of the background in boxes"]
    assert [(row["boxes"], row["n"]) for row in rows] == [("16 px", 2), ("64 px", 2), ("256 px", 0)]
    assert rows[0]["median"] > 0 and rows[2]["median"] is None


# ---- calibration -----------------------------------------------------------------------


def test_pulls_of_a_known_error(command, monkeypatch):
    calibration = command("calibration")
    sky = small_sky(3, stars=0.0, galaxies=0.0, full_well=0.0)
    rng = np.random.default_rng(0)
    sigma = sky.rms * np.exp(rng.uniform(-2, 1, sky.data.shape))
    sources = sky.sources + 1.5 * sigma * rng.standard_normal(sky.data.shape)
    parts = parts_of(sky, sources, sigma)
    monkeypatch.setattr(calibration, "separate", lambda *_, **__: parts)
    pulls = calibration.look(sky, None)["pulls"]
    assert set(pulls) == {"pixels", "circles of 1 FWHM", "circles of 2 FWHM"}
    for columns in pulls.values():
        seen = calibration.pull_statistics(columns[2])
        # Independent errors, half as large again as said, in pixels and in sums of them.
        assert seen["mean squared pull"] == pytest.approx(2.25, rel=0.25)
        assert seen["within 1 sigma"] == pytest.approx(0.495, abs=0.06)
    rows = calibration.binned([pulls["pixels"]])["uncertainty"]
    assert sum(row["n"] for row in rows) == pytest.approx(pulls["pixels"].shape[1], abs=900)


def test_a_bad_frame_moves_only_the_mean(command):
    calibration = command("calibration")
    pull = np.random.default_rng(1).standard_normal(4000)
    frames = [np.stack([np.ones_like(pull)] * 2 + [width * pull]) for width in (1.0, 1.0, 3.0)]
    (row,) = calibration.binned(frames)["brightness"]
    assert row["n"] == 12000
    assert row["median frame"] == pytest.approx(1.0, abs=0.1)
    assert row["mean squared pull"] == pytest.approx(11 / 3, rel=0.1)


def test_outliers_are_told_apart(command):
    calibration = command("calibration")
    seen = calibration.pull_statistics(np.array([1.0, -1.0, 50.0, 0.0]))
    assert seen["mean squared pull"] == pytest.approx(2 / 3)
    assert seen["beyond 10 sigma"] == 0.25 and seen["within 1 sigma"] == 0.25


def test_false_alarms_beside_the_card(command):
    calibration = command("calibration")
    usable = np.ones((1000, 1000), dtype=bool)
    truth = truth_of_catalogue([], [], [], usable=usable, fwhm=3.0)
    score = np.repeat([-5.0, 0.0, 3.0], [70, 20, 10])
    place = np.arange(100.0)
    curve = froc(detection_table(place, place, score), truth)
    card = Calibration((1,), (1,), (0,), (1,), (-6.0, 6.0), (100.0, 1.0))
    rows = {row["threshold"]: row for row in calibration.alarm_rows({"sky": curve}, card)}
    measured = [rows[level]["sky"] for level in (-6.0, -1.0, 2.0, 4.0)]
    assert measured == pytest.approx([100.0, 30.0, 10.0, 0.0])
    assert rows[0.0]["card"] == pytest.approx(10.0)


def test_calibration(command, toy_model_path, tmp_path):
    calibration = command("calibration")
    arguments = ["--frames", "1", "--side", "160"]
    tables = run(calibration, toy_model_path, tmp_path, *arguments)["tables"]
    assert {"MeerLICHT: pixels by uncertainty", "training sky: pixels by brightness"} <= set(tables)
    assert tables["false detections per Mpix"][0]["MeerLICHT"] > 0
    pytest.importorskip("matplotlib")
    assert 10_000 < (tmp_path / "out.png").stat().st_size < 100_000


# ---- artefacts ---------------------------------------------------------------------------


def test_recall_and_precision_of_known_masks(command):
    artefacts = command("artefacts")
    sky = small_sky(4, **artefacts.KINDS["cosmic rays"] | {"cosmic_rays": 400.0})
    true = (sky.mask & artefacts.scene.DEFECT_BIT) > 0
    assert true.sum() > 50
    perfect = artefacts.shares(artefacts.tally(sky, true))
    assert perfect["recall"] == perfect["precision"] == 1.0
    assert perfect["on stars / Mpix"] == 0
    everything = artefacts.shares(artefacts.tally(sky, np.ones_like(true)))
    assert everything["recall"] == 1.0 and everything["precision"] < 0.05
    half = true.copy()
    half[:, ::2] = False
    half = artefacts.shares(artefacts.tally(sky, half))
    assert 0.3 < half["recall"] < 0.7 and half["precision"] == 1.0


def test_artefacts(command, toy_model_path, tmp_path, monkeypatch):
    pytest.importorskip("astroscrappy")
    artefacts = command("artefacts")
    monkeypatch.setattr(artefacts, "SEEING", (4.5,))
    arguments = ["--frames", "1", "--side", "256"]
    (rows,) = run(artefacts, toy_model_path, tmp_path, *arguments)["tables"].values()
    assert len(rows) == 2 * 3
    found = {(row["artefacts"], row["method"]): row for row in rows}
    # Wide stars and sharp defects: what L.A.Cosmic was made for.
    assert found["hot pixels", "astroscrappy"]["recall 10-30"] > 0.8


# ---- instruments -------------------------------------------------------------------------


def test_mosaics(command, toy_model_path, tmp_path, monkeypatch):
    mosaics = command("mosaics")
    monkeypatch.setattr(mosaics, "WIDTHS", (3.0,))
    monkeypatch.setattr(mosaics, "COLOURS", (0,))
    rows = run(mosaics, toy_model_path, tmp_path, "--side", "180")["tables"][
        "light kept in mosaics"
    ]
    assert [row["mosaic"] for row in rows] == ["X-Trans", "Bayer"]
    assert all(np.isfinite(value) for row in rows for value in list(row.values())[1:])
    frame = mosaics.Frame(mosaics.PATTERNS["Bayer"], 180, 3.0, 0, np.random.default_rng(1))
    bright, least, faint = frame.kept(0.5 * frame.light)
    assert bright == pytest.approx(0.5) and least == pytest.approx(0.5)
    assert faint == pytest.approx(0.5, nan_ok=True)


def test_instruments(command, toy_model_path, tmp_path, monkeypatch):
    instruments = command("instruments")
    seen = []

    def evaluated(target, *, model, rng):
        seen.append((target, rng.integers(1 << 30)))
        rows = [
            {"method": "bgrem", "S/N at 50 %": 4.0, "mag on default": 0.5, "mag on matched": 0.1}
        ]
        return InjectionReport(target, {"FWHM": 3.0, "scored": 9}, rows, [], [])

    def read(path, *, largest):
        if "empty" in path:
            raise ValueError(f"{path}: no stars")
        assert largest == 300
        return Path(path).name

    monkeypatch.setattr(instruments, "evaluate_injected", evaluated)
    monkeypatch.setattr(instruments, "read_target", read)
    arguments = [
        "--jobs",
        "1",
        "--side",
        "300",
        "/there/a.fits",
        "/there/empty.fits",
        "/there/b.fits",
    ]
    tables = run(instruments, toy_model_path, tmp_path, *arguments)["tables"]
    rows = tables["depth by instrument"]
    assert [row["frame"] for row in rows] == ["a.fits", "b.fits", "median"]
    assert tables["left out"] == [{"frame": "empty.fits", "left out": "empty.fits: no stars"}]
    # The sources of a frame do not hang on those before it.
    run(instruments, toy_model_path, tmp_path, "--jobs", "1", "--side", "300", "/elsewhere/b.fits")
    assert seen[1] == seen[2] and seen[0][1] != seen[1][1]


def test_seams_are_those_of_the_tiles(monkeypatch, toy_model):
    """The frame goes through the path's own tiling; the toy reaches less far than a quarter overlap."""
    folder = Path(__file__).resolve().parents[2] / "benchmarks" / "path"
    monkeypatch.syspath_prepend(str(folder))
    seams = importlib.import_module("seams")
    x = np.random.default_rng(1).standard_normal((150, 170)).astype(np.float32)
    vector = np.zeros(8, np.float32)
    found = [seams.separated(toy_model, x, vector, tile, 32, 1)[0] for tile in (96, 512)]
    assert found[0].shape == (2, 150, 170)
    row = seams.row_of(96, 32, *found, 1.0, 32)
    assert row["within"] and row["largest"] < 1e-4
    found[0][0, 70, 80] += 5.0
    row = seams.row_of(96, 32, *found, 1.0, 32)
    assert not row["within"] and row["largest"] > seams.ALL


# ---- holes and few counts --------------------------------------------------------------


def test_every_hole_cuts_its_stars(command):
    holes = command("holes")
    for kind in holes.KINDS:
        rng = np.random.default_rng(1)
        light, data, places = holes.star_frame(kind, 3.0, rng, 2)
        bad = holes.hole(kind, places, 3.0, light.shape, rng)
        assert light.shape == data.shape == bad.shape == (144, 144)
        assert len(places) == 4
        assert bad.any() == (kind not in ("none", "outside"))
        if kind in ("core", "wide core", "pixel"):
            assert all(bad[round(y), round(x)] for x, y in places)


def test_holes_and_few_counts_print_their_tables(command, tmp_path, toy_model_path, monkeypatch):
    holes, few_counts = command("holes"), command("few_counts")
    monkeypatch.setattr(holes, "FWHM", (3.0,))
    monkeypatch.setattr(holes, "KINDS", ("none", "core"))
    monkeypatch.setattr(holes, "false_detections", lambda *_: [])
    monkeypatch.setattr(few_counts, "SKIES", (0.2,))
    tables = run(holes, toy_model_path, tmp_path, "--grid", "2")["tables"]
    assert [row["hole"] for row in tables["light kept beside holes"]] == ["none", "core", "core"]
    tables = run(few_counts, toy_model_path, tmp_path, "--side", "96", "--stars", "3")["tables"]
    assert [row["counts of a star"] for row in tables["few counts"]] == list(few_counts.COUNTS)


# ---- defects of a camera ---------------------------------------------------------------


def test_camera_defects_print_their_tables(command, toy_model_path, tmp_path):
    arguments = ["--side", "224", "--seeing", "2.2", "--frames", "6", "--detected", "1"]
    module = command("camera_defects")
    tables = run(module, toy_model_path, tmp_path, *arguments)["tables"]
    found, detected = tables["defects by pixel"][0], tables["detections at 10 false per Mpix"]
    assert found["hot"] == 1 and found["of 1000 flagged"] < 5 and found["columns"] > 0.7
    assert [row["method"] for row in detected] == ["bgrem", "matched filter"]


# ---- sharp stars -----------------------------------------------------------------------


@pytest.mark.parametrize(("fwhm", "gain"), [(1.2, ((1.0,),)), (3.0, ((0.6, 1.0), (1.0, 0.45)))])
def test_sharp_stars_know_their_light(command, fwhm, gain):
    stars = command("sharp_stars")
    frame = stars.Frame(np.random.default_rng(1), "Gaussian", fwhm, 15, True, gain)
    assert len(frame.hits) == 30 and frame.defects.max() >= 20 * frame.rms
    noise = frame.data - stars.LEVEL * frame.gain - frame.light - frame.defects
    deviation = np.sqrt((stars.LEVEL * frame.gain + frame.light) / stars.ELECTRONS)
    assert np.std(noise / deviation) == pytest.approx(1, abs=0.02)
    parts = SimpleNamespace(sources=frame.light, provenance={"fwhm": fwhm})
    row = frame.measured(parts)
    assert (row["kept"], row["a tenth below"]) == pytest.approx((1, 1))
    assert row["defects left"] < 0.05


def test_sharp_stars_print_their_tables(command, toy_model_path, tmp_path):
    tables = run(command("sharp_stars"), toy_model_path, tmp_path, "--widths", "1.5")["tables"]
    assert [row["defects"] for row in tables["sharp stars"]] == 4 * [False, True]
    assert len(tables["Bayer"]) == 6


# ---- wide and sharp stars, light curves ------------------------------------------------


def test_small_hits_are_a_few_pixels(command):
    image = np.zeros((40, 400))
    columns = np.arange(5, 395, 10)
    rows = np.full(columns.size, 20)
    command("frames").add_hits(image, np.random.default_rng(1), rows, columns, np.full(39, 50.0))
    assert (image[rows, columns] >= 50).all()
    pixels = (image[:, :390].reshape(40, 39, 10) > 0).sum(axis=(0, 2))
    assert set(pixels) == {1, 2, 3} and image[(image > 0) & (image < 50)].min() >= 10
    assert not image[:18].any() and not image[23:].any()
    edge = np.zeros((3, 3))
    command("frames").add_hits(edge, np.random.default_rng(1), [0, 9], [0, 9], [1.0, 1.0])
    assert edge[0, 0] >= 1


def test_means_of_widths(command):
    wide = command("wide_seeing")
    names = [f"{name} {rate:g}" for rate in wide.FALSE_PER_MPIX for name in ("at", "68 % at")]
    rows = [
        {"stars": field, "noise": noise, **dict(zip(names, 3 * [ratio, (0.9, 1.1)], strict=True))}
        for field, noise, ratio in (("few", "white", 0.8), ("few", "white", 1.0),
                                    ("few", "resampled", 1.1), ("usual", "white", 1.0),
                                    ("usual", "resampled", 1.0))
    ]  # fmt: skip
    lines = wide.means(rows)
    assert [line["at 10"] for line in lines] == pytest.approx([0.9, 1.1, 1.0, 1.0, 0.98])
    assert lines[0]["error at 30"] == pytest.approx(0.1 / 2**0.5)


def test_wide_seeing(command, toy_model_path, tmp_path):
    arguments = ["--frames", "1", "--side", "352", "--fwhm", "5"]
    tables = run(command("wide_seeing"), toy_model_path, tmp_path, *arguments)["tables"]
    rows = tables["true detections over the matched filter's"]
    assert [(row["stars"], row["noise"]) for row in rows] == [
        ("few", "white"), ("few", "resampled"), ("usual", "white"), ("usual", "resampled")
    ]  # fmt: skip
    assert rows[0]["Mpix"] == pytest.approx(2 * rows[2]["Mpix"], rel=0.05)
    assert rows[2]["sources"] > rows[0]["sources"]
    for row in rows:
        low, high = row["68 % at 100"]
        assert row["FWHM"] == pytest.approx(5, rel=0.03) and row["at 10"] is None
        assert row["measured"] == pytest.approx(row["equivalent"], rel=0.1)
        assert low <= row["at 100"] <= high


def test_cameras_have_their_defects(command):
    cameras = command("sharp_cameras")
    scene = Scene(shape=(512, 512), fwhm=2.0, **cameras.FIELD)
    clean, frame, where = cameras.camera_frame(scene, np.random.default_rng(3))
    added = (frame.data - clean.data) * scene.gain / scene.sky_rms
    assert 1 <= where["warm pixels"].sum() <= 12 and 8 <= where["hits"].sum() <= 50
    assert np.array_equal(added > 0.2, where["warm pixels"] | where["hits"])
    warm = added[where["warm pixels"] & ~where["hits"]]
    assert warm.min() > 2.9 and warm.max() < 10.1


def test_sharp_cameras(command, toy_model_path, tmp_path):
    arguments = ["--frames", "1", "--side", "352", "--fwhm", "2"]
    tables = run(command("sharp_cameras"), toy_model_path, tmp_path, *arguments)["tables"]
    (row,) = tables["true detections over the matched filter's"]
    ours, theirs, clean = tables["by method, per Mpix"]
    assert row["at 100"] == pytest.approx(ours["true at 100"] / theirs["true at 100"])
    assert clean["method"] == "matched filter, no defects"
    assert clean["true at 100"] >= theirs["true at 100"]
    for method in (ours, theirs, clean):
        false = [method[f"false on {kind}"] for kind in ("warm pixels", "hits")]
        assert sum(false) + method["on neither"] <= 10 + 1 / row["Mpix"]


def curve_field(command, side=300):
    """The command, a field, and three of its exposures."""
    curve = command("light_curve")
    field = curve.Field(3.0, side, np.random.default_rng(1))
    return curve, field, [field.exposed(np.random.default_rng([2, i])) for i in range(3)]


def test_stars_of_a_light_curve_are_constant(command):
    curve, field, _ = curve_field(command)
    fluxes = [
        curve.aperture_fluxes(field._light(dx, dy), field.x + dx, field.y + dy, 3.0)
        for dx, dy in ((0, 0), (-9.6, 3.4), (7.2, -10))
    ]
    assert fluxes[0].min() > 0 and set(field.around) == {*curve.AROUND, curve.GLOW}
    assert fluxes[1:] == pytest.approx(np.stack(2 * fluxes[:1]), rel=0.02)


def test_the_scatter_of_a_light_curve_is_that_of_its_sky(command, monkeypatch):
    curve, field, exposures = curve_field(command)
    wrong = iter([0.0, 0.0, 0.0, 0.0, 3.0, 1.0])

    def separate(data, **_):
        (sky,) = (one.sky for one in exposures if one.data is data)
        return SimpleNamespace(background=sky + next(wrong), sources=data - sky)

    monkeypatch.setattr(curve, "separate", separate)
    right, off = (
        curve.Scatter(field, [curve.measured(one, 3.0, None) for one in exposures])
        for _ in range(2)
    )
    known = right.known
    assert known.any() and known[field.around != "column"].all()
    assert right.ratios["data - background"][known] == pytest.approx(1)
    assert right.ratios["sources"][known] == pytest.approx(1)
    assert np.median(off.ratios["data - background"][known]) > 1.1
    assert off.ratios["sources"][known] == pytest.approx(1)
    rows = list(curve.by_surroundings([right]))
    assert sum(row["stars"] for row in rows) == known.sum()


def test_too_few_exposures_have_no_scatter(command):
    curve = command("light_curve")
    flux = np.arange(16.0).reshape(8, 2) % 5
    flux[:3, 1] = np.nan
    first, second = curve.deviations(list(flux))
    assert first == pytest.approx(np.std(flux[:, 0], ddof=1)) and np.isnan(second)


def test_light_curve(command, toy_model_path, tmp_path):
    arguments = ["--exposures", "3", "--side", "256", "--fwhm", "3"]
    tables = run(command("light_curve"), toy_model_path, tmp_path, *arguments)["tables"]
    by_brightness, beside = tables.values()
    assert [row["S/N"] for row in by_brightness] == ["10-20", "20-50", "50-100", "100-300"]
    assert sum(row["stars"] for row in by_brightness) == sum(row["stars"] for row in beside) > 5
    assert all(row["data - background"] > 0.5 for row in by_brightness if row["stars"])


# ---- wide light ------------------------------------------------------------------------


def test_wide_light_has_its_brightness_and_radius(command):
    skies = command("wide_skies")
    x = np.arange(6000.0) + 0.5
    for index in skies.SERSIC.values():
        within = np.cumsum(x * skies.sersic(x, 50.0, index))
        assert skies.sersic(50.0, 50.0, index) == 1.0
        assert within[49] == pytest.approx(0.5 * within[-1], rel=0.02)
    rng = np.random.default_rng(1)
    disc = skies.draw_light(skies.WideLight("disc", 60.0, 3.0), (400, 400), rng)
    assert 2.7 < disc.max() <= 3.0 and disc.min() < 0.3


def test_frame_does_not_depend_on_its_wide_light(command):
    skies = command("wide_skies")
    for kind in skies.KINDS:
        faint, bright = (
            skies.draw_frame(kind, np.random.default_rng(2), 128, skies.WideLight("disc", 20.0, b))
            for b in (1.0, 10.0)
        )
        assert np.array_equal(faint.before, bright.before)
        assert bright.light == pytest.approx(10 * faint.light)
        assert (np.ptp(faint.sky) > 0.1) == (kind not in ("flat", "crowded"))
        # The noise of the sky is 1; stars move the lower percentiles little.
        low = np.percentile(faint.before - faint.sky, [5, 16])
        assert np.diff(low) == pytest.approx(0.65, abs=0.06)


def test_wide_lights_are_spread_evenly(command):
    wide = command("wide_light")
    lights = [[wide.light_of(k, i) for i in range(24)] for k in range(10)]
    assert len(set(lights[3])) == 24
    assert len({(light.profile, light.radius) for light in lights[3][:8]}) == 8
    assert len({light for kind in lights for light in kind[:6]}) == 24


def wide_frame(command, kind="slope"):
    """A frame with a disc."""
    skies = command("wide_skies")
    disc = skies.WideLight("disc", 20.0, 3.0)
    return skies.draw_frame(kind, np.random.default_rng(3), 256, disc)


def wide_figures(command, frame, before, found):
    """Figures of backgrounds and sources without and with the light."""
    found_of = command("wide_methods").Found
    return command("wide_light").figures_of(frame, found_of(*before), found_of(*found))


def test_true_background_scores_zero(command):
    frame = wide_frame(command)
    found = frame.sky, 0.5 * (frame.data - frame.before)
    figures = wide_figures(command, frame, (frame.sky, 0 * frame.sky), found)
    assert figures["abs(flux - 1)"] == figures["outside"] == figures["under"] == 0
    assert figures["without"] == 0
    assert figures["sources"] == pytest.approx(0.5, abs=0.02)


def test_constant_background_loses_outside(command):
    frame = wide_frame(command)
    found = (0 * frame.sky + np.mean(frame.sky),)
    figures = wide_figures(command, frame, found, found)
    assert figures["outside"] > 0.3 and figures["without"] > 0.3
    assert np.isnan(figures["sources"])


def test_background_that_takes_light_loses_flux(command):
    frame = wide_frame(command)
    figures = wide_figures(command, frame, (frame.sky,), (frame.sky + 0.25 * frame.light,))
    assert figures["abs(flux - 1)"] == pytest.approx(0.25)
    assert figures["under"] > 10 * figures["outside"] > 0


def test_real_frame_is_compared_with_itself(command):
    skies = command("wide_skies")
    rng = np.random.default_rng(4)
    frame = skies.plant(rng.normal(size=(256, 256)), skies.WideLight("disc", 20.0, 3.0), rng)
    frame.before[:30] = frame.data[:30] = np.nan
    both = [(0.1 * image + 7.0, image) for image in (frame.before, frame.data)]
    figures = wide_figures(command, frame, *both)
    assert figures["abs(flux - 1)"] == pytest.approx(0.1, abs=0.01)
    assert figures["sources"] == pytest.approx(1.0, abs=0.05)
    assert np.isnan(figures["without"])


def test_stars_in_wide_light_are_counted(command):
    frame, points_of = wide_frame(command), command("wide_light").points_of
    frame.field[::8, ::8] = 50.0
    assert points_of(frame, 0.5 * frame.field, 0.0) == pytest.approx(0.5)
    assert points_of(frame, frame.field + frame.light, frame.light) == pytest.approx(1.0)
    assert np.isnan(points_of(frame, None, 0.0))


def test_least_error_averages_what_is_smooth(command):
    least_error = command("least_error").least_error
    errors = {}
    for kind in ("flat", "fringes"):
        frame = wide_frame(command, kind)
        errors[kind] = least_error(frame.before, frame.field, frame.sky, 30.0)
    assert 0 < errors["flat"] < 0.03 < errors["fringes"]


def test_bars_with_and_without_fringes(command):
    tables = command("wide_tables")
    good = {"abs(flux - 1)": 0.01, "outside": 0.005, "under": 0.01, "sources": 0.95}
    bad = {"abs(flux - 1)": 0.5, "outside": 0.5, "under": 0.5, "sources": 0.7}
    records = [
        {"method": "m", "group": group, "brightness": brightness, **values}
        for group, values in (("flat", good), ("fringes", bad)) for brightness in (1.0, 10.0)
    ]  # fmt: skip
    rows = tables.bars(records, "m")
    assert len(rows) == len(tables.BARS)
    assert all(row["without fringes: within"] and not row["all kinds: within"] for row in rows)
    (mean, narrow) = tables.by_group(records, "outside")[-2:]
    assert narrow["sky"] == "mean without fringes"
    assert (mean["m"], narrow["m"]) == pytest.approx((0.2525, 0.005))


def test_tables_of_wide_light_hold_the_worst(command):
    wide = command("wide_tables")
    known = {"sources": 0.9, "outside": 0.1, "under": np.nan, "without": 0.1, "seconds": 1.0}
    records = [
        {"method": "m", "group": group, "abs(flux - 1)": value, **known}
        for group, value in (("a", 0.1), ("a", 0.2), ("a", 9.0), ("b", 0.4), ("c", np.nan))
    ]
    (row,) = wide.summary(records)
    assert row["abs(flux - 1)"] == pytest.approx(0.3) and row["worst abs(flux - 1)"] == "0.4 b"
    assert row["worst under"] == "-" and row["frames"] == 0
    rows = wide.by_group(records, "abs(flux - 1)")
    assert [r["sky"] for r in rows] == ["a", "b", "c", "mean"]
    assert rows[-1]["m"] == pytest.approx(0.3)


def test_wide_light(command, toy_model_path, tmp_path):
    from astropy.io import fits

    data = np.random.default_rng(5).normal(100.0, 5.0, (250, 260)).astype(np.float32)
    fits.writeto(tmp_path / "sky.fits", data)
    fits.writeto(tmp_path / "sky.weight.fits", data)
    fits.writeto(tmp_path / "small.fits", data[:90])
    fits.writeto(tmp_path / "constant.fits", np.zeros((250, 260), np.float32))
    result = run(
        command("wide_light"), toy_model_path, tmp_path, "--side", "256", "--frames", "1",
        "--kinds", "flat", "amplifier step", "--box", "64", "--images", str(tmp_path),
        "--methods", "bgrem", "bgrem 64 px", "sextractor 64 px",
    )  # fmt: skip
    assert {record["group"] for record in result["real"]} == {"sky.fits"}
    rows = result["tables"]["wide light: mean of the kinds of sky, and the worst"]
    assert [row["method"] for row in rows] == ["bgrem", "bgrem 64 px", "sextractor 64 px"]
    assert all(row["under"] > 0 for row in rows) and rows[2]["sources"] is None
    without = "the same skies without wide light: rms error of the background"
    flat, step, _ = result["tables"][without]
    assert 0 < flat["least"] < step["least"] < step["sextractor 64 px"]


def test_every_method_finds_a_level(command, toy_model):
    wide = command("wide_methods")
    data = np.random.default_rng(6).normal(500.0, 1.0, (300, 300))
    options = SimpleNamespace(box=[], methods=None, other=None, quiet=True)
    data[7, 8] = np.nan
    methods = wide.methods_of(options, toy_model)
    assert {"bgrem", "sextractor 64 px", "sextractor 256 px"} <= set(methods)
    for method in methods.values():
        assert np.nanmedian(method(data)[0]) == pytest.approx(500.0, abs=0.1)
    with pytest.raises(SystemExit, match="no methods"):
        wide.methods_of(
            SimpleNamespace(box=[], methods=["bgrm"], other=None, quiet=True), toy_model
        )


def test_missing_programs_are_left_out(command, monkeypatch):
    wide = command("wide_methods")
    monkeypatch.setattr(wide.shutil, "which", lambda _: None)
    monkeypatch.setattr(wide, "find_spec", lambda _: None)
    options = SimpleNamespace(box=[192], methods=None, other=None, quiet=True)
    names = ["bgrem", "bgrem --sky mesh", "bgrem --extended background", "bgrem 192 px",
             "sextractor 64 px", "sextractor 256 px"]  # fmt: skip
    assert list(wide.methods_of(options, None)) == names


def test_another_checkout_separates_images(command):
    other_checkout = command("other_checkout")
    checkout = Path(__file__).resolve().parents[2]
    other = other_checkout.OtherCheckout(checkout, threads=1)
    assert other.name.startswith("bgrem ")
    background, sources = other(np.random.default_rng(7).normal(50.0, 1.0, (64, 64)))
    assert np.median(background) == pytest.approx(50.0, abs=0.2)
    assert sources.shape == (64, 64)
    with pytest.raises(ValueError, match="constant"):
        other(np.zeros((64, 64)))
    with pytest.raises(SystemExit, match="no checkout"):
        other_checkout.OtherCheckout(checkout / "docs")


# ---- significance ----------------------------------------------------------------------


def test_weights_of_the_snr_are_judged_by_what_they_find(command):
    weights = command("significance")
    rng = np.random.default_rng(3)
    truth = np.zeros((256, 256), bool)
    places = rng.integers(20, 236, (40, 2))
    truth[tuple(places.T)] = True
    odds = rng.normal(0, 1, truth.shape).astype(np.float32) + 2 * truth
    snr = rng.normal(0, 1, truth.shape).astype(np.float32) + 6 * truth
    scored = truth_of_catalogue(
        places[:, 1], places[:, 0], np.full(40, 9.0), usable=np.ones(truth.shape, bool), fwhm=2.0
    )
    found = np.array([weights._found(odds, snr, scored)] * 2)
    rows = {row["w"]: row for row in weights._rows(found)}
    assert rows[0.0]["mean"] == 0 < rows[0.25]["mean"] < rows[1.0]["mean"]
    assert rows[1.0]["error"] == 0 and rows[1.0]["median"] == rows[1.0]["least tenth"] > 0


# ---- versions --------------------------------------------------------------------------


def test_versions_are_compared_on_the_same_frames(command):
    versions = command("versions")
    scene = Scene(shape=(400, 400), stars=2000.0, cosmic_rays=0.0, satellite_trails=0.0)
    frame = simulated_frame(scene, np.random.default_rng(4))
    truth = frame.truth
    table = detection_table(truth.x, truth.y, truth.snr)[truth.counted]
    blind = table[::2]
    chosen = {"matched filter": table, "before": blind, "after": table}
    methods = {name: lambda frame, table=table: table for name, table in chosen.items()}
    curves = versions._curves([frame], methods)
    row = versions._rows("stars", curves)[0]
    assert row["after"] == row["matched filter"] > 1.8 * row["before"]
    assert row["after / matched filter"] == "1.000 (1.000-1.000)"
    spread = versions._spread(
        [
            {"before": 10, "matched filter": 20, "after": 20},
            {"before": 10, "matched filter": 10, "after": 5},
        ]
    )
    assert (spread["least / before"], spread["greatest / before"]) == (0.5, 2.0)
    assert (spread["least / matched filter"], spread["greatest / matched filter"]) == (0.5, 1.0)


# ---- streaks ---------------------------------------------------------------------------


def test_streaks_are_judged_by_their_own_light(command):
    streaks = command("streaks")
    for kind in streaks.KINDS[:-1]:
        light, judged = streaks._light(kind, 10.0, np.random.default_rng(1))
        assert light.shape == judged.shape == (streaks.SIDE, streaks.SIDE)
        assert 0 <= judged.min() and np.all(judged <= light + 1e-9)
        long = np.count_nonzero(judged > 1.0)
        assert long > 35, f"a {kind} of {long} pixels"
    whole = [(0.1, 0.0, False, 3.0), (0.3, 0.2, True, 9.0)]
    row = streaks._row(whole)
    assert (row["least"], row["most"], row["warned"]) == (0.1, 0.3, 0.5)
    assert row["height"] == "3.0-9"


def test_streaks_print_their_table(command, toy_model_path, tmp_path):
    rows = run(command("streaks"), toy_model_path, tmp_path, "--frames", "1")["tables"]
    assert len(rows["where the light goes"]) == 9


# ---- training on one night of a camera -------------------------------------------------


def test_nights_of_a_camera_share_its_detector(command):
    night = command("camera_defects").Night
    options = SimpleNamespace(side=400, dither=3.0, rays=0.0, frames=1)
    first = night(2.0, options, np.random.default_rng(1))
    second = night(2.2, options, np.random.default_rng(2), like=first)
    assert second.added is first.added and second.lines is first.lines
    hot, rms = first.places["hot"], first.scene.sky_rms / first.scene.gain
    assert len(hot[0]) == 3
    for one in (first, second):
        assert np.all(one.frames[0][hot] > np.median(one.frames[0]) + 5 * rms)
    assert not np.array_equal(first.stars[0], second.stars[0])


def test_the_night_after_has_a_row_for_each_rate(command, toy_model_path, tmp_path):
    """A model that was not written leaves that of the package in use."""
    training = command("camera_training")
    options = SimpleNamespace(side=224, dither=3.0, rays=20.0, frames=2)
    night = training.Night(2.4, options, np.random.default_rng(3))
    model = load_model(toy_model_path, threads=1)
    rows = training._rows(2.4, night, model, None)
    assert [row["written"] for row in rows] == ["no"] * len(rows)
    assert all(row["after"] == row["before"] for row in rows) and rows
