"""Images larger than memory: kept in files, with the same result, within the limit."""

import bz2
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from skies import star_field

from bgrem.arrays.rows import MEMORY, Scratch, Stored
from bgrem.background import separate
from bgrem.inference.memory import check_limit, least_memory
from bgrem.options import Run
from bgrem.processing.files import process_file

ROOT = Path(__file__).resolve().parents[2]
PLANES = ("background", "noise", "rms", "mask", "uncertainty", "significance")
PARTS = ("sources", "background", "noise", "rms", "mask", "uncertainty", "significance")


@pytest.fixture
def scratch(tmp_path):
    """A store that keeps no image in memory."""
    return Scratch(tmp_path, 0)


@pytest.fixture
def all_in_files(monkeypatch):
    """The limit asks for files, however small the image."""
    monkeypatch.setattr("bgrem.arrays.rows.SHARE", 1e12)


def sky(shape=(150, 210), seed=0):
    data = star_field(shape, level=500, rms=5, height=300, sigma=1.5, margin=0, seed=seed)
    data = data.astype(np.float32)
    data[40, 50:60] = np.nan
    return data


# --- rooms


def test_a_stored_image_works_by_rows(scratch):
    values = np.arange(60 * 70, dtype=np.float32).reshape(60, 70)
    stored = scratch.empty(values.shape, np.float32)
    assert isinstance(stored, Stored)
    for top in range(0, 60, 7):
        stored[top : top + 7] = values[top : top + 7]
    for key in (slice(3, 9), (slice(0, 60, 7), slice(1, 70, 5)), (slice(50, 99), slice(60, 99))):
        np.testing.assert_array_equal(stored[key], values[key])
        assert type(stored[key]) is np.ndarray
    stored[5:6] += 1
    np.testing.assert_array_equal(stored[5:6], values[5:6] + 1)
    assert (stored.shape, stored.size, stored.dtype) == ((60, 70), 4200, np.float32)


def test_planes_of_a_stored_cube_are_stored(scratch):
    cube = scratch.empty((2, 3, 4), np.uint8)
    for i, plane in enumerate(cube):
        assert isinstance(plane, Stored)
        plane[0:3] = i
    np.testing.assert_array_equal(cube.reshape(6, 4)[0:6].sum(axis=1), [0, 0, 0, 4, 4, 4])
    assert cube.transpose(2, 0, 1).shape == (4, 2, 3)


def test_small_images_stay_in_memory(tmp_path):
    store = Scratch(tmp_path, 8 * 4000)
    assert type(store.empty((10, 100), np.float32)) is np.ndarray
    assert isinstance(store.empty((1, 1), np.float32), Stored)
    assert list(tmp_path.iterdir()) == []


# --- the same result


@pytest.mark.parametrize("options", [{}, {"minpix": 490.0, "steps": 2}, {"norm": 0.2}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_are_the_same_bit_by_bit(toy_model, scratch, options, dtype):
    data = sky().astype(dtype)
    mask = np.zeros(data.shape, bool)
    mask[100:110] = True
    expected = separate(data, mask=mask, model=toy_model, **options)
    stored, bad = scratch.empty(data.shape, dtype), scratch.empty(data.shape, bool)
    stored[:], bad[:] = data, mask
    found = separate(stored, mask=bad, model=toy_model, run=Run(store=scratch), **options)
    for name in PARTS:
        part = getattr(found, name)
        assert isinstance(part, Stored)
        np.testing.assert_array_equal(part[:], getattr(expected, name), err_msg=name)
    assert found.provenance == expected.provenance


def write(path, kind):
    """Files of every form: plain, packed, tile-compressed, cubes, integers."""
    data = sky()
    if kind in ("gz", "bz2"):
        path = path.with_name(f"{path.name}.{kind}")
        fits.PrimaryHDU(data).writeto(path.with_suffix(".plain"))
        pack = {"gz": gzip.compress, "bz2": bz2.compress}[kind]
        path.write_bytes(pack(path.with_suffix(".plain").read_bytes()))
        path.with_suffix(".plain").unlink()
        return path
    if kind == "tiles":
        path = path.with_name(f"{path.name}.fz")
        whole = np.nan_to_num(data, nan=0).astype(np.int16)
        unit = fits.CompImageHDU(whole, compression_type="RICE_1", tile_shape=(40, 50))
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
        return path
    image = {
        "float": data,
        "unsigned": np.nan_to_num(data, nan=0).astype(np.uint16),
        "cube": np.stack([data, sky(seed=1), np.full_like(data, 3)]),
        "colour": np.stack([sky(seed=i) for i in range(3)], axis=-1),
    }[kind]
    extra = fits.ImageHDU(np.arange(300, dtype=np.int16).reshape(10, 30), name="EXTRA")
    fits.HDUList([fits.PrimaryHDU(image), extra]).writeto(path, checksum=True)
    return path


@pytest.mark.parametrize("kind", ["float", "unsigned", "cube", "colour", "gz", "bz2", "tiles"])
def test_files_are_the_same_bit_by_bit(tmp_path, toy_model, all_in_files, kind):
    path = write(tmp_path / "a.fits", kind)
    bad = np.zeros((150, 210), np.uint8)
    bad[100:110] = 1
    fits.PrimaryHDU(bad).writeto(tmp_path / "bad.fits")
    options = {
        "model": toy_model, "save": PLANES, "nonnegative": True, "keep_level": True,
        "mask": tmp_path / "bad.fits",
    }  # fmt: skip
    names = {path.name, "bad.fits"}
    results = [
        process_file(path, output_dir=tmp_path / folder, memory=memory, **options)
        for folder, memory in (("one", None), ("two", 1e9))
    ]
    assert results[0].warnings == results[1].warnings
    with fits.open(results[0].output) as one, fits.open(results[1].output, checksum=True) as two:
        assert [hdu.name for hdu in one] == [hdu.name for hdu in two]
        for first, second in zip(one, two, strict=True):
            if first.data is not None:
                np.testing.assert_array_equal(second.data, first.data, err_msg=first.name)
    assert {p.name for p in tmp_path.iterdir()} == names | {"one", "two"}
    assert len(list((tmp_path / "two").iterdir())) == 1


def beside(path, kind):
    """Images with maps beside them: companions, a weight map, a zero-filled border, a Bayer mosaic."""
    data = np.nan_to_num(sky((150, 210)), nan=500)
    if kind == "companions":
        flags = np.zeros(data.shape, np.int16)
        flags[30:34, 40:60], flags[80, 90:95] = 4096, 256
        units = [fits.PrimaryHDU(), fits.ImageHDU(data, name="SCI", ver=1)]
        units += [fits.ImageHDU(np.full_like(data, 5), name="ERR", ver=1)]
        units += [fits.ImageHDU(flags, name="DQ", ver=1)]
        fits.HDUList(units).writeto(path)
        return {}
    if kind in ("bayer", "mosaic"):
        data[::2, ::2] *= 0.5
        data[1::2, 1::2] *= 0.5
        cards = fits.Header({"BAYERPAT": 4 * "RRGG"} if kind == "mosaic" else {})
        fits.PrimaryHDU(data, cards).writeto(path)
        return {"minpix": None}
    data[:, :20] = 0
    units = [fits.PrimaryHDU(data), fits.ImageHDU(sky(seed=2), name="OTHER")]
    fits.HDUList(units).writeto(path)
    weight = np.random.default_rng(1).uniform(1, 2, data.shape)
    weight[:10] = 0
    return {"weight": weight, "saturate": 700.0, "hdu": "all"}


@pytest.mark.parametrize("kind", ["companions", "bayer", "mosaic", "weight"])
def test_maps_and_mosaics_are_the_same(tmp_path, toy_model, all_in_files, kind):
    options = beside(tmp_path / "a.fits", kind)
    options |= {"model": toy_model, "save": PLANES, "keep_level": True}
    results = [
        process_file(tmp_path / "a.fits", output_dir=tmp_path / folder, memory=memory, **options)
        for folder, memory in (("one", None), ("two", 1e9))
    ]
    assert results[0].warnings == results[1].warnings
    with fits.open(results[0].output) as one, fits.open(results[1].output) as two:
        assert [hdu.name for hdu in one] == [hdu.name for hdu in two]
        for first, second in zip(one, two, strict=True):
            if first.data is not None:
                np.testing.assert_array_equal(second.data, first.data, err_msg=first.name)


@pytest.mark.parametrize("wanted", ["report", "plot"])
def test_pages_and_pictures_are_refused(tmp_path, toy_model, wanted):
    path = write(tmp_path / "a.fits", "float")
    with pytest.raises(ValueError, match="give no --memory with them"):
        process_file(path, model=toy_model, memory=1e9, **{wanted: True})


def test_memory_is_the_default(toy_model, tmp_path):
    path = write(tmp_path / "a.fits", "float")
    assert separate(fits.getdata(path).astype(np.float32), model=toy_model).store is MEMORY


# --- the limit


def test_an_image_that_cannot_be_done_is_refused(toy_model, tmp_path):
    least = least_memory((150, 210), toy_model.card, ())
    check_limit(Scratch(tmp_path, 2 * least), (150, 210), toy_model.card, (), "a.fits")
    with pytest.raises(ValueError, match=r"a.fits of 210 x 150 pixels needs .* GB of memory"):
        check_limit(Scratch(tmp_path, least), (150, 210), toy_model.card, (), "a.fits")
    assert least_memory((40000, 40000), toy_model.card, ()) < 2e9
    # An engine whose libraries are large leaves less.
    check_limit(Scratch(tmp_path, 2 * least), (150, 210), toy_model.card, (), "a.fits", 0.5 * least)
    with pytest.raises(ValueError, match="a.fits of 210 x 150 pixels needs"):
        check_limit(Scratch(tmp_path, 2 * least), (150, 210), toy_model.card, (), "a.fits", least)


PEAK = """\
import resource, sys
from pathlib import Path
from bgrem.cli.bgrem import main
code = main(sys.argv[1:])
status = Path("/proc/self/status")
if status.exists():  # what getrusage says begins with the peak of the process that forked this one
    peak = int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
else:
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(peak, file=sys.stderr)
sys.exit(code)
"""


def peak(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, arguments)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a Unix")
def test_the_limit_is_kept(tmp_path, toy_model_path):
    block = np.nan_to_num(sky((512, 512)), nan=500)
    fits.PrimaryHDU(np.tile(block, (12, 8))).writeto(tmp_path / "a.fits")
    arguments = ["-f", tmp_path / "a.fits", "--model", toy_model_path, "--quiet"]
    arguments += ["--save", "background,noise,mask"]
    free = peak(*arguments, "-p", "free_")
    limited = peak(*arguments, "-p", "limited_", "--memory", "450MB")
    assert limited < 450e6 < free
    for i in range(4):
        one, two = (fits.getdata(tmp_path / f"{p}_a.fits", i) for p in ("free", "limited"))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("2GB", 2e9), ("800MB", 8e8), ("1.5g", 1.5e9), ("1GiB", 2**30), ("1000", 1000)],
)
def test_amounts_of_memory(text, amount):
    from bgrem.cli.bgrem import make_parser

    assert make_parser().parse_args(["-f", "a.fits", "--memory", text]).memory == amount


@pytest.mark.parametrize("text", ["much", "0GB", "-1GB", "2XB", ""])
def test_amounts_that_are_none(text, capsys):
    from bgrem.cli.bgrem import main

    with pytest.raises(SystemExit):
        main(["-f", "a.fits", f"--memory={text}"])
    assert "is not an amount of memory such as 2GB" in capsys.readouterr().err


def test_the_refusal_in_one_sentence(tmp_path, toy_model_path, capsys):
    from bgrem.cli.bgrem import main

    path = write(tmp_path / "a.fits", "float")
    assert main(["-f", str(path), "--model", toy_model_path, "--memory", "100MB"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bgrem: {path}: HDU 0 of 210 x 150 pixels needs ")
    assert line.endswith(" GB of memory, more than the limit of 0.1 GB")
