"""Defects of a camera through the command: found, written, used, refused."""

import gzip
import signal

import numpy as np
import pytest
from astropy.io import fits
from camera_frames import RMS, SKY, WARM, Camera

from bgrem.cli.bgrem import main as bgrem
from bgrem.cli.defects import main
from bgrem.defects import camera as camera_files
from bgrem.defects.measure import BAD_COLUMN, BAD_PIXEL, BAD_ROW
from bgrem.io.restore import undo


@pytest.fixture
def run(toy_model_path, tmp_path):
    """Runs the command on paths; the exit code."""

    def ran(paths, *arguments, output="bad.fits"):
        given = [*map(str, paths), "-o", str(tmp_path / output), "--model", toy_model_path]
        return main([*given, *map(str, arguments)])

    return ran


def found(path, hdu=0):
    with fits.open(path, checksum=True) as hdus:
        return hdus[hdu].data.copy(), hdus["VALUE"].data.copy(), hdus["CHANCE"].data.copy()


# ---- what is found ---------------------------------------------------------------------


def test_warm_and_dark_pixels_are_found_and_stars_are_not(run, night_of, tmp_path, capsys):
    assert run(night_of) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "8 frames, " in captured.out and "6 pixels, 0 columns and 0 rows bad" in captured.out
    bits, value, chance = found(tmp_path / "bad.fits")
    assert bits.dtype == np.uint8
    assert set(zip(*np.nonzero(bits), strict=True)) == {*WARM, (150, 150)}
    assert set(np.unique(bits)) == {0, BAD_PIXEL}
    for place, height in WARM.items():
        assert value[place] == pytest.approx(height, abs=1.5)
        assert chance[place] > 0.9
    assert value[150, 150] < -6
    assert ((chance >= 0) & (chance <= 1)).all() and ((chance >= 0.5) == (bits > 0)).all()


def test_the_answer_depends_on_no_unit_level_or_order(run, camera, tmp_path):
    paths = camera.write(tmp_path / "a", 6)
    other = tmp_path / "b"
    other.mkdir()
    for path in paths:
        fits.writeto(other / path.name, (0.01 * fits.getdata(path) - 7).astype(np.float32))
    assert run(paths) == 0 and run(sorted(other.iterdir())[::-1], output="other.fits") == 0
    one, two = (found(tmp_path / name) for name in ("bad.fits", "other.fits"))
    assert (one[0] == two[0]).all()
    assert np.allclose(one[1], two[1], atol=0.02, equal_nan=True)


def test_columns_and_rows_whole_and_in_part(run, tmp_path):
    camera = Camera(320, stars=60)
    camera.added[:, 40] = 1.0
    camera.added[130:, 100] = 2.0
    camera.added[:150, 200] = -1.5
    camera.added[250, :] = 1.2
    assert run(camera.write(tmp_path / "frames", 6)) == 0
    bits, value, chance = found(tmp_path / "bad.fits")
    assert (bits[:, 40] & BAD_COLUMN).all() and (bits[250] & BAD_ROW).all()
    for column, wanted in ((100, slice(130, 320)), (200, slice(0, 150))):
        where = np.flatnonzero(bits[:, column] & BAD_COLUMN)
        assert abs(where[0] - wanted.start) <= 3 and abs(where[-1] + 1 - wanted.stop) <= 3
    assert np.count_nonzero((bits & BAD_COLUMN).any(axis=0)) == 3
    assert np.median(value[:, 40]) == pytest.approx(1.0, abs=0.2)
    assert (chance[:, 40] > 0.5).all()
    header = fits.getheader(tmp_path / "bad.fits")
    assert (header["BGR_NCOL"], header["BGR_NROW"], header["BGR_NFRM"]) == (3, 1, 6)


def test_wide_columns_are_not_taken_for_stars_that_stay(run, tmp_path, capsys):
    camera = Camera(256)
    camera.added[:, 60:64] = 40.0
    assert run(camera.write(tmp_path / "frames", 5)) == 0
    assert capsys.readouterr().err == ""
    assert (found(tmp_path / "bad.fits")[0][:, 60:64] > 0).mean() > 0.9


def test_amplifier_steps_are_no_columns(run, tmp_path):
    camera = Camera(256)
    camera.added[:, 128:] += 3.0
    assert run(camera.write(tmp_path / "frames", 5)) == 0
    assert not found(tmp_path / "bad.fits")[0].any()


def test_cosmic_rays_and_nan_are_no_defects(run, camera, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(6):
        data = camera.frame()
        y, x = camera.rng.integers(0, camera.side, (2, 60))
        data[y, x] += 300 * RMS
        data[10:20, 10:20] = np.nan  # in all frames
        fits.writeto(folder / f"{i}.fits", data)
    assert run(sorted(folder.iterdir())) == 0
    bits, value, chance = found(tmp_path / "bad.fits")
    assert set(zip(*np.nonzero(bits), strict=True)) == {*WARM, (150, 150)}
    assert np.isnan(value[12:18, 12:18]).all() and np.isnan(chance[12:18, 12:18]).all()


def test_frames_of_one_pointing_give_what_is_sharper_than_stars(run, camera, tmp_path, capsys):
    paths = camera.write(tmp_path / "frames", dither=0.3)
    assert run(paths) == 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "(1 pointing, 3 are needed)" in captured.err
    bits, _, _ = found(tmp_path / "bad.fits")
    places = set(zip(*np.nonzero(bits), strict=True))
    assert places <= {*WARM, (150, 150)}
    assert {place for place, height in WARM.items() if height > 5} <= places


def test_exposure_times_scale_warm_pixels(run, camera, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, scale in enumerate([0.2, 0.3, 1, 1, 2, 2, 3]):
        hdu = fits.PrimaryHDU(camera.frame(scale=scale))
        hdu.header["EXPTIME"] = 60.0 * scale
        hdu.writeto(folder / f"{i}.fits")
    assert run(sorted(folder.iterdir())) == 0
    bits = found(tmp_path / "bad.fits")[0]
    assert {place for place, height in WARM.items() if height >= 5} <= set(
        zip(*np.nonzero(bits), strict=True)
    )
    assert fits.getheader(tmp_path / "bad.fits")["BGR_TIME"] == 60


# ---- files -----------------------------------------------------------------------------


def test_scaled_integers_compressed_and_gzipped_files(run, camera, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(5):
        data = np.rint(camera.frame()).astype(np.uint16)
        if i == 0:
            fits.CompImageHDU(data).writeto(folder / "c.fits.fz")
        elif i == 1:
            fits.PrimaryHDU(data).writeto(folder / "g.fits")
            (folder / "g.fits.gz").write_bytes(gzip.compress((folder / "g.fits").read_bytes()))
            (folder / "g.fits").unlink()
        else:
            fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data)]).writeto(folder / f"{i}.fits")
    plain = [folder / "g.fits.gz"]
    others = sorted(set(folder.iterdir()) - set(plain))
    assert run(others) == 1  # four are too few
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(camera.frame())]).writeto(folder / "5.fits")
    assert run([*others, folder / "5.fits"]) == 0
    assert fits.getdata(tmp_path / "bad.fits", 1)[120, 61] == BAD_PIXEL
    assert fits.getheader(tmp_path / "bad.fits", 0)["NAXIS"] == 0


def test_a_map_for_each_hdu_which_mask_takes(run, toy_model_path, tmp_path):
    cameras = [Camera(96, seed=4, stars=10), Camera(80, seed=5, stars=10)]
    cameras[0].added[40, 50], cameras[1].added[20, 30] = 9.0, 9.0
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(6):
        hdus = [fits.ImageHDU(one.frame(), name=f"CCD{k}") for k, one in enumerate(cameras, 1)]
        table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])])
        fits.HDUList([fits.PrimaryHDU(), hdus[0], table, hdus[1]]).writeto(folder / f"{i}.fits")
    paths = sorted(folder.iterdir())
    assert run(paths, "-h", "all") == 0
    bad = tmp_path / "bad.fits"
    with fits.open(bad) as hdus:
        assert [hdu.name for hdu in hdus[:4]] == ["PRIMARY", "CCD1", "", "CCD2"]
        assert hdus[1].data[40, 50] == hdus[3].data[20, 30] == BAD_PIXEL
        assert hdus["VALUE", 2].data[20, 30] > 7 and hdus["VALUE", 2].header["BGR_HDU"] == 3
    for option in ("--mask", "--defects"):
        output = tmp_path / option
        given = ["-f", str(paths[0]), "-h", "all", option, str(bad), "--output-dir", str(output)]
        assert bgrem([*given, "--save", "mask", "--model", toy_model_path, "--quiet"]) == 0
        with fits.open(output / "BGRem_0.fits") as hdus:
            bit = 2 if option == "--mask" else 34
            assert hdus["MASK", 1].data[40, 50] & 34 == bit
            assert hdus["MASK", 2].data[20, 30] & 34 == bit


def test_memory_does_not_change_the_map(run, camera, tmp_path):
    paths = camera.write(tmp_path / "frames", 5)
    assert run(paths) == 0 and run(paths, "--memory", "1kB", output="small.fits") == 0
    for one, two in zip(found(tmp_path / "bad.fits"), found(tmp_path / "small.fits"), strict=True):
        assert np.array_equal(one, two, equal_nan=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.fits", "frames", "small.fits"]


# ---- refused ---------------------------------------------------------------------------


def refusal(capsys, code=1):
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    return error


def test_bad_lists_are_refused_in_one_sentence(run, camera, night_of, tmp_path, capsys):
    assert run(night_of[:4]) == 1
    assert "4 frames are too few" in refusal(capsys)
    fits.writeto(tmp_path / "odd.fits", np.ones((50, 60), np.float32))
    assert run([*night_of, tmp_path / "odd.fits"]) == 1
    assert "odd.fits: is of another detector" in (error := refusal(capsys))
    assert "60 x 50 pixels, not 192 x 192" in error
    assert run([*night_of, tmp_path / "none.fits"]) == 1
    assert "none.fits: no such file" in refusal(capsys)
    fits.writeto(tmp_path / "flat.fits", np.ones((192, 192), np.float32))
    assert run([*night_of, tmp_path / "flat.fits"]) == 1
    assert "flat.fits: HDU 0" in refusal(capsys)
    fits.writeto(tmp_path / "cube.fits", np.stack([camera.frame()] * 2))
    assert run([*night_of, tmp_path / "cube.fits"]) == 1
    assert "cube of 2 planes" in refusal(capsys)
    assert not (tmp_path / "bad.fits").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".bgrem")]


def test_frames_of_another_readout_are_refused(run, camera, tmp_path, capsys):
    paths = camera.write(tmp_path / "a", 5, header={"CCDNUM": 3, "CCDSUM": "1 1"})
    others = camera.write(tmp_path / "b", 1, header={"CCDNUM": 4, "CCDSUM": "1 1"})
    assert run([*paths, *others]) == 1
    assert "CCDNUM 4, not 3" in refusal(capsys)


def test_outputs_and_inputs_are_never_overwritten(run, night_of, tmp_path, capsys):
    (tmp_path / "bad.fits").write_text("mine")
    assert run(night_of) == 1
    assert "exists already" in refusal(capsys)
    assert (tmp_path / "bad.fits").read_text() == "mine"
    assert run(night_of, "--overwrite", output="frames/f3.fits") == 1
    assert "would overwrite the input" in refusal(capsys)
    assert run(night_of, "--overwrite") == 0


def test_an_interrupt_leaves_nothing(run, night_of, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(camera_files, "measure_defects", interrupted)
    assert run(night_of) == 128 + signal.SIGINT
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


# ---- used by bgrem ---------------------------------------------------------------------


def test_defects_and_mask_are_one_mask(run, camera, night_of, toy_model_path, tmp_path):
    assert run(night_of) == 0
    mask = np.zeros((camera.side, camera.side), np.uint8)
    mask[5, 6] = mask[120, 61] = 1
    fits.writeto(tmp_path / "mask.fits", mask)
    given = [
        "-f",
        str(night_of[0]),
        "--mask",
        str(tmp_path / "mask.fits"),
        "--model",
        toy_model_path,
    ]
    given += ["--defects", str(tmp_path / "bad.fits"), "--save", "mask,background,noise", "--quiet"]
    assert bgrem(given) == 0
    output = night_of[0].with_name("BGRem_f0.fits")
    flags, sources = fits.getdata(output, "MASK"), fits.getdata(output)
    assert flags[5, 6] & 34 == 2 and flags[90, 90] & 34 == 34 and flags[120, 61] & 34 == 34
    assert sources[90, 90] == 0
    restored = undo(output, tmp_path / "again.fits")
    assert np.allclose(fits.getdata(restored), fits.getdata(night_of[0]), rtol=1e-6)


def test_the_map_of_another_detector_is_refused(run, camera, toy_model_path, tmp_path, capsys):
    paths = camera.write(tmp_path / "a", 5, header={"CCDNUM": 3})
    (other,) = camera.write(tmp_path / "b", 1, header={"CCDNUM": 4})
    assert run(paths) == 0
    capsys.readouterr()
    given = ["-f", str(other), "--defects", str(tmp_path / "bad.fits"), "--model", toy_model_path]
    assert bgrem(given) == 1
    assert "map of another detector" in refusal(capsys)


def test_a_batch_measures_its_maps_by_detector(camera, toy_model_path, tmp_path, capsys):
    camera.write(tmp_path / "night", 5, header={"CCDNUM": 3})
    few = Camera(64, seed=9, stars=5)
    fits.writeto(tmp_path / "night" / "g.fits", few.frame())
    output = tmp_path / "out"
    given = ["-f", str(tmp_path / "night"), "--defects", "auto", "--output-dir", str(output)]
    given += ["--save", "mask", "--model", toy_model_path, "--workers", "1"]
    assert bgrem(given) == 0
    captured = capsys.readouterr()
    assert "5 frames are needed" in captured.err and "g.fits: 1 of its detector" in captured.err
    assert captured.out.count("model=toy") == 6
    first = fits.getdata(output / "BGRem_f0.fits", "MASK")
    assert first[90, 90] & 34 == 34
    assert not (fits.getdata(output / "BGRem_g.fits", "MASK") & 32).any()
    written = (output / "BGRem_defects.fits").stat().st_mtime_ns
    assert bgrem(given) == 0  # nothing is measured or separated again
    assert "done before" in capsys.readouterr().err
    assert (output / "BGRem_defects.fits").stat().st_mtime_ns == written


def test_a_frame_without_sky_does_not_cost_the_map(camera, toy_model_path, tmp_path, capsys):
    camera.write(tmp_path / "night", 5)
    flat = np.full((camera.side, camera.side), SKY, np.float32)
    fits.writeto(tmp_path / "night" / "flat.fits", flat)
    given = ["-f", str(tmp_path / "night"), "--defects", "auto", "--model", toy_model_path]
    assert bgrem(given) == 1
    error = capsys.readouterr().err
    assert "left out" in error and "flat.fits" in error
    assert fits.getdata(tmp_path / "night" / "BGRem_defects.fits")[90, 90] == BAD_PIXEL
