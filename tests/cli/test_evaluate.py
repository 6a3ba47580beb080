"""The command `bgrem-evaluate` on pairs, scenes and frames of one's own."""

import json
import sys

import numpy as np
import pytest
from astropy.io import fits
from skies import RAW_GAIN, made_pair, raw_frame_with_stars

from bgrem.cli.evaluate import main
from bgrem.detection.psf import psf_fwhm
from bgrem.evaluate import inject
from bgrem.evaluate.methods import pair_frame
from bgrem.evaluate.target import read_target


@pytest.fixture
def pair_files(tmp_path):
    pair, *_ = made_pair(size=448)
    single, deep = tmp_path / "single.fits", tmp_path / "deep.fits"
    mask = fits.ImageHDU(pair.mask.astype(np.uint8), name="MASK")
    fits.HDUList([fits.PrimaryHDU(pair.single), mask]).writeto(single)
    images = [fits.ImageHDU(pair.deep, name="SCI"), fits.ImageHDU(pair.error, name="SE")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(deep)
    return str(single), str(deep)


def test_command_on_a_pair(pair_files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "out"
    arguments = ["--model", "none", "--quiet", "--output-dir", str(folder)]
    assert main(["--pair", *pair_files, *arguments]) == 0
    text = capsys.readouterr().out
    assert "matched filter" in text and "sextractor" in text
    summary = json.loads((folder / "single.json").read_text())
    assert {row["rate"] for row in summary["rows"]} == {100.0, 300.0}
    assert summary["area_mpix"] < 0.2 and summary["sources"] > 50
    assert (folder / "single.csv").read_text().startswith("method,score")
    assert (folder / "single.png").stat().st_size > 10_000


def test_command_takes_the_fwhm(pair_files, capsys, monkeypatch):
    def measured(*_, **__):
        raise ValueError("no star")

    monkeypatch.setattr("bgrem.evaluate.pair.measure_psf", measured)
    with pytest.raises(ValueError, match="no star"):
        pair_frame(*pair_files)
    frame = pair_frame(*pair_files, fwhm=3.0)
    assert abs(psf_fwhm(frame.psf) - 3.0) < 0.2
    with pytest.raises(SystemExit):
        main(["--pair", *pair_files, "--fwhm", "0"])


def test_command_reports_missing_packages(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "bgrem.simulate.scene_files", None)
    monkeypatch.setattr("bgrem.evaluate.methods.comparison_methods", lambda **_: {})
    assert main(["--simulate", "1", "--model", "none", "--quiet"]) == 1
    assert "is not installed (pip install" in capsys.readouterr().err


def test_command_refuses_an_impossible_scene(tmp_path, capsys):
    path = tmp_path / "scenes.toml"
    path.write_text('title = "mine"\n[scene]\nfhwm = 3.0\n')
    assert main(["--simulate", "1", "--scenes", str(path), "--model", "none", "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("bgrem-evaluate: mine: a scene has no field 'fhwm'")


def test_command_refuses(tmp_path, pair_files, capsys):
    assert main(["--pair", "missing.fits", pair_files[1], "--model", "none"]) == 1
    assert "missing.fits: no such file" in capsys.readouterr().err
    assert main(["--pair", pair_files[0], pair_files[0], "--model", "none"]) == 1
    assert "SCI" in capsys.readouterr().err
    for wrong in ([], ["--simulate", "0"], ["--pair", "one.fits"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "mine.fits"
    header = fits.Header({"GAIN": RAW_GAIN})
    fits.writeto(path, raw_frame_with_stars(1, size=192, stars=15), header)
    return str(path)


def test_command_on_ones_own_frame(image_file, tmp_path, toy_model_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("astroscrappy")
    monkeypatch.setattr(inject, "ENOUGH_SOURCES", 50)
    folder = tmp_path / "out"
    arguments = ["--model", toy_model_path, "--output-dir", str(folder), "--quiet", "--seed", "3"]
    assert main(["--inject", image_file, *arguments]) == 0
    text = capsys.readouterr().out
    assert "gain from GAIN" in text and "measured over true flux" in text
    result = json.loads((folder / "mine.json").read_text())
    assert {row["method"] for row in result["methods"]} >= {"bgrem", "matched filter"}
    assert result["facts"]["scored"] > 20
    # Bright stars are recovered by the toy, too; on the original by anybody.
    brightest = [row for row in result["flux"] if row["original"] is not None][-1]
    assert brightest["original"] == pytest.approx(1.0, abs=0.1)
    assert (folder / "mine.png").stat().st_size > 5_000
    seen = read_target(image_file)
    assert (seen.gain, seen.gain_source) == (RAW_GAIN, "GAIN")


def test_one_bad_file_does_not_stop_the_others(image_file, tmp_path, capsys, monkeypatch):
    pytest.importorskip("astroscrappy")
    monkeypatch.setattr(inject, "ENOUGH_SOURCES", 30)
    empty = tmp_path / "empty.fits"
    fits.writeto(empty, np.random.default_rng(0).standard_normal((96, 96)).astype(np.float32))
    files = [str(tmp_path / "none.fits"), str(empty), image_file, image_file]
    assert main(["--inject", *files, "--model", "none", "--quiet"]) == 1
    said = capsys.readouterr()
    assert "none.fits" in said.err and "too few to measure the PSF" in said.err
    # Two frames make a summary with a row each, and their median.
    assert said.out.splitlines()[-2].startswith("mine.fits")
    assert said.out.splitlines()[-4].startswith("frame")
