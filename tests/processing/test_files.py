"""From a FITS file to the file of its sources: products, provenance, many files."""

import os

import numpy as np
import pytest
from astropy.io import fits

from bgrem.inference.model import Model
from bgrem.io.reading import FitsError
from bgrem.processing.files import process_file, process_files
from bgrem.processing.outcome import Failure, Result
from bgrem.processing.paths import output_path

SHAPE = (70, 90)
ALL_PLANES = ("background", "noise", "rms", "mask", "uncertainty", "significance")


def star_field(seed=0, level=500.0):
    """A flat sky of unit noise times 5 with a few stars; float32 of SHAPE."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    stars = sum(
        4000 / 14 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 4.5)
        for a, b in rng.uniform(8, 62, (6, 2))
    )
    return (level + rng.normal(0, 5, SHAPE) + stars).astype(np.float32)


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "frame.fits"
    fits.PrimaryHDU(star_field(), fits.Header({"BUNIT": "adu"})).writeto(path)
    return path


@pytest.fixture
def run(toy_model):
    return lambda path, **options: process_file(path, model=toy_model, **options)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- products


def test_the_parts_add_up(frame, run):
    before = frame.read_bytes()
    result = run(frame, save=ALL_PLANES)
    assert result.output == frame.with_name("BGRem_frame.fits")
    assert frame.read_bytes() == before
    with fits.open(result.output, checksum=True) as hdus:
        assert [hdu.name for hdu in hdus] == [
            "PRIMARY", "BACKGROUND", "NOISE", "RMS", "MASK", "UNCERT", "SIGNIF", "UNDO",
        ]  # fmt: skip
        assert [hdu.header["BITPIX"] for hdu in hdus[:7]] == [-32, -32, -32, -32, 8, -32, -32]
        parts = [hdu.data.astype(float) for hdu in hdus[:3]]
    data = star_field()
    scale = sum(abs(part) for part in parts) + abs(data)
    assert np.all(abs(sum(parts) - data) <= 1e-6 * scale)


def test_only_what_is_asked_for_is_saved(frame, run):
    with fits.open(run(frame).output) as hdus:
        assert len(hdus) == 1


def test_provenance(frame, run, toy_model):
    result = run(frame, steps=2, fwhm=3.5, minpix=-4.0)
    header = fits.getheader(result.output)
    assert header["BGR_MODL"] == "toy"
    assert header["BGR_HASH"] == toy_model.sha256[:16]
    assert header["BGR_ENGN"] == "onnxruntime cpu float32"
    assert header["BGR_STEP"] == 2
    assert (header["BGR_FWHM"], header["BGR_FWSR"]) == (3.5, "given")
    assert header["BGR_MINP"] == -4.0
    assert header["BGR_LEVL"] == pytest.approx(500, abs=2)
    assert header["BGR_RMS"] == pytest.approx(5, rel=0.2)
    assert header["BGR_NORM"] == 0
    assert not header["BGR_NNEG"]
    assert not header["BGR_KEEP"]
    assert header["BUNIT"] == "adu"
    assert any("bgrem" in line for line in header["HISTORY"])
    assert all(len(keyword) <= 8 for keyword in header["BGR_*"])
    assert result.level == header["BGR_LEVL"]
    assert result.rms == header["BGR_RMS"]


def test_an_assumed_fwhm_is_reported(tmp_path, run):
    path = tmp_path / "empty.fits"
    empty = np.random.default_rng(1).normal(500, 5, SHAPE).astype(np.float32)
    fits.PrimaryHDU(empty).writeto(path)
    result = run(path)
    header = fits.getheader(result.output)
    assert (header["BGR_FWHM"], header["BGR_FWSR"]) == (3.0, "assumed")
    assert (result.fwhm, result.fwhm_from) == (3.0, "assumed")


def test_norm_replaces_the_rms_map(frame, run):
    with fits.open(run(frame, norm=0.1, save=["rms"]).output) as hdus:
        np.testing.assert_allclose(hdus["RMS"].data, 10, rtol=1e-5)
        assert hdus[0].header["BGR_NORM"] == 0.1


@pytest.mark.parametrize(("level", "expected"), [(500.0, 0), (1.0, None)])
def test_minpix_is_0_for_raw_frames_only(tmp_path, run, level, expected):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(star_field(level=level)).writeto(path)
    assert fits.getheader(run(path).output).get("BGR_MINP") == expected


def test_nonnegative_moves_the_negative_part_to_the_noise(frame, run):
    plain = fits.open(run(frame, prefix="a_", save=["background", "noise"]).output)
    clipped = fits.open(
        run(frame, prefix="b_", nonnegative=True, save=["background", "noise"]).output
    )
    np.testing.assert_array_equal(clipped[0].data, np.maximum(plain[0].data, 0))
    sums = [sum(hdu.data.astype(float) for hdu in hdus[:3]) for hdus in (plain, clipped)]
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-6)
    assert clipped[0].header["BGR_NNEG"]


def test_keep_level_adds_the_sky_level(frame, run):
    plain = fits.getdata(run(frame, prefix="a_").output)
    kept, header = fits.getdata(run(frame, prefix="b_", keep_level=True).output, header=True)
    np.testing.assert_allclose(kept, plain + header["BGR_LEVL"], rtol=1e-6)
    assert header["BGR_KEEP"]


def test_masks_of_every_form(tmp_path, run):
    data, bad = star_field(), np.zeros(SHAPE, np.uint8)
    data[40, 50], bad[40, 50] = 1e6, 4
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(data), fits.ImageHDU(bad, name="DQ")]).writeto(path)
    for i, mask in enumerate(("DQ", "1", f"{path}[DQ]", bad != 0)):
        result = run(path, prefix=f"{i}_", mask=mask, save=["mask"])
        with fits.open(result.output) as hdus:
            assert hdus["MASK"].data[40, 50] == 2
            assert hdus[0].data[40, 50] == 0


def test_masks_that_do_not_fit(frame, run, tmp_path):
    plane = np.zeros(SHAPE, bool)
    for shape in [(5, 6), (2, *SHAPE), (1, SHAPE[1]), SHAPE[1:], ()]:
        with pytest.raises(FitsError, match="is a mask of .* pixels, but the im"):
            run(frame, mask=np.zeros(shape))
    fits.PrimaryHDU(plane.astype(np.uint8)).writeto(tmp_path / "mask.fits")
    run(frame, mask=tmp_path / "mask.fits")
    run(frame, mask=plane[None].tolist(), overwrite=True)


def test_only_known_planes_are_saved(frame, run):
    with pytest.raises(ValueError, match="cannot save 'depth'; there are background, noise"):
        run(frame, save=["noise", "depth"])


def test_double_precision_stays(tmp_path, run):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(star_field().astype(np.float64) + 1e9).writeto(path)
    with fits.open(run(path, save=["noise"]).output) as hdus:
        assert [hdu.header["BITPIX"] for hdu in hdus] == [-64, -64]


def test_nan_in_nan_out(tmp_path, run):
    data = star_field()
    data[5:9, 7] = np.nan
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(data).writeto(path)
    with fits.open(run(path, save=["noise", "mask"]).output) as hdus:
        np.testing.assert_array_equal(np.isnan(hdus[0].data), np.isnan(data))
        np.testing.assert_array_equal(hdus["MASK"].data & 1, np.isnan(data))


# --- cubes


def test_cubes_go_plane_by_plane(tmp_path, run, toy_model):
    cube = np.stack([star_field(0), star_field(1, 900.0)])
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(cube[:, None]).writeto(path)
    result = run(path, save=ALL_PLANES)
    fits.PrimaryHDU(cube[1]).writeto(tmp_path / "plane.fits")
    plane = fits.getdata(run(tmp_path / "plane.fits").output)
    with fits.open(result.output) as hdus:
        assert {hdu.shape for hdu in hdus if hdu.is_image} == {(2, 1, *SHAPE)}
        np.testing.assert_array_equal(hdus[0].data[1, 0], plane)
        header = hdus[0].header
    assert header["BGR_L1"] == pytest.approx(500, abs=3)
    assert header["BGR_L2"] == pytest.approx(900, abs=3)


def test_a_constant_plane_is_left_alone(tmp_path, run):
    cube = np.stack([np.full(SHAPE, 7, np.float32), star_field()])
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(cube).writeto(path)
    result = run(path, save=ALL_PLANES, keep_level=True)
    assert any(warning.startswith("plane 1: left alone") for warning in result.warnings)
    with fits.open(result.output) as hdus:
        np.testing.assert_array_equal(hdus[0].data[0], 0)
        np.testing.assert_array_equal(hdus["NOISE"].data[0], 7)
        assert np.isnan(hdus["RMS"].data[0]).all()
        assert hdus[0].header["BGR_WARN"] >= 1
    fits.PrimaryHDU(cube[:1].repeat(2, 0)).writeto(tmp_path / "flat.fits")
    with pytest.raises(FitsError, match="flat.fits: HDU 0: .*constant"):
        run(tmp_path / "flat.fits")


def test_a_masked_plane_is_left_alone_and_flagged(tmp_path, run):
    cube = np.stack([star_field(0), star_field(1)])
    cube[0, 3, 4] = np.nan
    bad = np.zeros(cube.shape, bool)
    bad[0] = True
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(cube).writeto(path)
    flags = fits.getdata(run(path, mask=bad, save=["mask"]).output, "MASK")
    assert flags[0, 3, 4] == 3
    assert np.count_nonzero(flags[0] == 2) == flags[0].size - 1
    assert not (flags[1] & 3).any()


def test_a_cube_loads_its_model_once(tmp_path, toy_model_path, monkeypatch):
    from bgrem.processing import files

    loaded = []
    load = files.optical_model
    monkeypatch.setattr(files, "optical_model", lambda model: loaded.append(model) or load(model))
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(np.stack([star_field(0), star_field(1)])).writeto(path)
    (result,) = process_files(path, model=toy_model_path)
    assert isinstance(result, Result)
    assert loaded[0] == toy_model_path and all(isinstance(model, Model) for model in loaded[1:])


# --- names and refusals


def test_output_names(tmp_path):
    assert output_path("d/a.fits.gz").as_posix() == "d/BGRem_a.fits.gz"
    assert output_path("d/a.fits", prefix="", output_dir="e").as_posix() == "e/a.fits"


def test_output_folder_is_made(frame, run, tmp_path):
    result = run(frame, output_dir=tmp_path / "new" / "deep")
    assert result.output == tmp_path / "new" / "deep" / "BGRem_frame.fits"
    assert result.output.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_input_is_never_overwritten(frame, run, overwrite, tmp_path):
    before = frame.read_bytes()
    (tmp_path / "link.fits").symlink_to(frame)
    (tmp_path / "hard").mkdir()
    os.link(frame, tmp_path / "hard" / "BGRem_frame.fits")
    options = [
        {"prefix": ""},
        {"prefix": "", "output_dir": tmp_path / "hard" / ".."},
        {"output_dir": tmp_path / "hard"},
    ]
    for option in options:
        with pytest.raises(FitsError, match="would overwrite the input"):
            run(frame, overwrite=overwrite, **option)
    with pytest.raises(FitsError, match="would overwrite the input"):
        run(tmp_path / "link.fits", prefix="", overwrite=overwrite)
    assert frame.read_bytes() == before


def test_existing_output(frame, run):
    first = run(frame).output.read_bytes()
    with pytest.raises(FitsError, match="exists already"):
        run(frame)
    assert frame.with_name("BGRem_frame.fits").read_bytes() == first
    run(frame, overwrite=True, steps=2)
    assert fits.getheader(frame.with_name("BGRem_frame.fits"))["BGR_STEP"] == 2


def test_outputs_that_cannot_be_written(frame, run, tmp_path):
    with pytest.raises(FitsError, match="is not a folder"):
        run(frame, output_dir=frame / "x")
    (tmp_path / "BGRem_frame.fits").mkdir()
    with pytest.raises(FitsError, match="is a folder"):
        run(frame, overwrite=True)
    if os.geteuid():
        (tmp_path / "sealed").mkdir(mode=0o500)
        with pytest.raises(FitsError, match="not writable"):
            run(frame, output_dir=tmp_path / "sealed")


def test_nothing_is_left_when_it_fails(frame, tmp_path, run, toy_model, monkeypatch):
    fits.PrimaryHDU(np.full(SHAPE, 3.0)).writeto(tmp_path / "flat.fits")
    before = names_in(tmp_path)
    with pytest.raises(FitsError, match="constant"):
        run(tmp_path / "flat.fits")
    with pytest.raises(FitsError, match="no such file"):
        run(tmp_path / "none.fits")
    with monkeypatch.context() as patch:
        patch.setattr(
            "bgrem.io.writing.checked_header", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
        )
        with pytest.raises(FitsError, match="cannot be written .full"):
            run(frame)
    assert names_in(tmp_path) == before


# --- many files


def outcomes(paths, toy_model, **options):
    return list(process_files(paths, model=toy_model, **options))


def test_a_bad_file_does_not_stop_the_others(frame, tmp_path, toy_model):
    (tmp_path / "page.fits").write_text("<html>")
    results = outcomes([tmp_path / "page.fits", frame, tmp_path / "none.fits"], toy_model)
    assert [type(result) for result in results] == [Failure, Result, Failure]
    assert results[0].message == f"{tmp_path / 'page.fits'}: not a FITS file"


def test_an_unexpected_fault_stops_no_other_file(frame, toy_model, monkeypatch):
    monkeypatch.setattr("bgrem.processing.files.separate", lambda *_, **__: 1 / 0)
    (failure,) = outcomes([frame], toy_model)
    assert "unexpected ZeroDivisionError" in failure.message


def test_folders_and_globs_skip_earlier_outputs(frame, tmp_path, toy_model):
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.fits").write_text("no image")
    second = tmp_path / "second.fit"
    second.write_bytes(frame.read_bytes())
    first = outcomes([tmp_path], toy_model)
    assert [result.input.name for result in first] == ["frame.fits", "second.fit"]
    again = outcomes([tmp_path, str(tmp_path / "*.fit*"), frame], toy_model, overwrite=True)
    assert [result.input.name for result in again] == ["frame.fits", "second.fit"]


def test_a_name_with_glob_characters(frame, tmp_path, toy_model):
    odd = tmp_path / "a[1].fits"
    odd.write_bytes(frame.read_bytes())
    assert outcomes([str(odd)], toy_model)[0].output.name == "BGRem_a[1].fits"


def test_nothing_found(tmp_path, toy_model):
    (tmp_path / "BGRem_a.fits").write_text("")
    messages = [
        r.message for r in outcomes([tmp_path, tmp_path / "*.fits", tmp_path / "x*"], toy_model)
    ]
    assert messages == [
        f"{tmp_path}: the folder holds no FITS file but 1 outputs of bgrem",
        f"{tmp_path / '*.fits'}: the pattern matches no file but 1 outputs of bgrem",
        f"{tmp_path / 'x*'}: the pattern matches no file",
    ]


def test_inputs_of_one_name_are_not_overwritten(frame, tmp_path, toy_model):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "frame.fits"
    twin.write_bytes(frame.read_bytes())
    results = outcomes([frame, twin], toy_model, output_dir=tmp_path / "out", overwrite=True)
    assert isinstance(results[0], Result)
    assert "is already that of" in results[1].message


def test_progress_runs_from_0_to_1(tmp_path, toy_model):
    from contextlib import contextmanager

    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(np.stack([star_field(0), star_field(1)])).writeto(path)
    seen = []

    @contextmanager
    def progress(name):
        seen.append(name)
        yield seen.append

    process_file(path, model=toy_model, progress=progress)
    assert seen[0] == "cube.fits"
    assert seen[1:] == sorted(seen[1:])
    assert seen[-1] == 1


def test_what_is_written_is_logged(frame, run, caplog):
    with caplog.at_level("INFO", logger="bgrem"):
        result = run(frame)
    assert [record.name for record in caplog.records] == ["bgrem.processing.files"]
    assert str(result.output) in caplog.text


def test_unknown_options_are_refused(frame, toy_model):
    for name in ("imgae", "image", "maps"):
        with pytest.raises(TypeError, match=name):
            process_file(frame, model=toy_model, **{name: 1})
