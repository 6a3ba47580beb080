"""The original file is restored from the products."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from skies import flat_sky

import bgrem
from bgrem.cli.undo import main
from bgrem.io.reading import FitsError
from bgrem.io.restore import restored_path, undo
from bgrem.processing.files import process_file

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (40, 50)
SAVE = ("background", "noise")


@pytest.fixture
def run(toy_model):
    return lambda path, save=SAVE, **options: process_file(
        path, model=toy_model, save=save, overwrite=True, **options
    )


def sky(seed=0, level=100.0, rms=5.0):
    data = flat_sky(SHAPE, level, rms, seed=seed, dtype=float)
    data[10:13, 20:23] += 80 * rms
    return data


def stored_with(path, raw, **cards):
    """A file whose stored pixels are ``raw`` and whose header says how to read them."""
    bits = raw.itemsize * (-8 if raw.dtype.kind == "f" else 8)
    header = fits.Header({"SIMPLE": True, "BITPIX": bits, "NAXIS": raw.ndim})
    for i, n in enumerate(raw.shape[::-1]):
        header[f"NAXIS{i + 1}"] = n
    header.update(cards)
    body = raw.astype(raw.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(header.tostring().encode() + body + b"\0" * (-len(body) % 2880))
    return path


def check_floats(path, restored, output):
    """Within one unit in the last place of the largest of data, sources and background."""
    with fits.open(path) as a, fits.open(restored) as b, fits.open(output) as products:
        before, after = a[0].data, b[0].data
        assert before.dtype == after.dtype
        largest = np.maximum(abs(before), abs(products["BACKGROUND"].data))
        largest = np.maximum(largest, abs(products[0].data)).astype(before.dtype.newbyteorder("="))
    np.testing.assert_array_equal(np.isnan(before), np.isnan(after))
    known = np.isfinite(before)
    np.testing.assert_array_equal(before[~known], after[~known])
    assert np.all(abs(after[known] - before[known]) <= np.spacing(largest[known]))


# --- integers


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_integers_come_back_byte_for_byte(tmp_path, run, dtype):
    highest = np.iinfo(dtype).max
    data = sky(rms=2).astype(dtype) if dtype == "u1" else (sky() / 600 * highest).astype(dtype)
    data[0, :2] = 0, highest
    data[3, 3] += 1
    header = fits.Header({"OBJECT": "M 67", "BUNIT": "adu"})
    header.add_history("of the input")
    fits.PrimaryHDU(data, header).writeto(tmp_path / "a.fits", checksum=True)
    out = undo(run(tmp_path / "a.fits", steps=2).output)
    assert out.name == "restored_a.fits"
    assert out.read_bytes() == (tmp_path / "a.fits").read_bytes()


@settings(max_examples=6, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "i2", "i4", "i8"]),
    scale=st.sampled_from([1, 0.25, 2.92273835509, -1e-12]),
    zero=st.sampled_from([0, -7.25, 3713.66692596]),
    seed=st.integers(0, 99),
)
def test_scale_zero_and_blank_come_back(tmp_path_factory, toy_model, dtype, scale, zero, seed):
    folder = tmp_path_factory.mktemp("undo")
    raw = sky(seed).clip(0, 250).astype(dtype)
    raw[5, 6:9] = 7
    path = stored_with(folder / "a.fits", raw, BSCALE=scale, BZERO=zero, BLANK=7)
    out = undo(process_file(path, model=toy_model, save=SAVE).output)
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"nonnegative": True},
        {"keep_level": True},
        {"nonnegative": True, "keep_level": True},
        {"minpix": 95.0},
        {"mask": np.arange(2000).reshape(SHAPE) % 7 == 0},
        {"saturate": 120.0},
    ],
)
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_whatever_the_options(tmp_path, run, options, dtype):
    data = sky().astype(dtype)
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    result = run(tmp_path / "a.fits", **options)
    out = undo(result.output)
    if dtype == "u2":
        assert out.read_bytes() == (tmp_path / "a.fits").read_bytes()
    elif not options.get("keep_level"):
        check_floats(tmp_path / "a.fits", out, result.output)
    np.testing.assert_allclose(fits.getdata(out), data, rtol=2e-7)


# --- floats


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e9])
def test_floats_come_back_to_the_last_place(tmp_path, run, dtype, unit):
    data = (sky(level=3.0) * unit).astype(dtype)
    data[2, 2:5] = np.nan, np.inf, -np.inf
    data[7, 7] = 1e30
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    result = run(tmp_path / "a.fits")
    check_floats(tmp_path / "a.fits", undo(result.output), result.output)


# --- forms of the file


def test_a_cube_and_what_lies_around_it(tmp_path, run):
    cube = np.stack([sky(0), np.full(SHAPE, 9.0), sky(1, 900)]).astype(np.uint16)
    table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2])], name="LIST")
    units = [fits.PrimaryHDU(cube, fits.Header({"NEXTEND": 1})), table]
    fits.HDUList(units).writeto(tmp_path / "a.fits", checksum=True)
    for keep_level in (False, True):
        out = undo(run(tmp_path / "a.fits", keep_level=keep_level).output, overwrite=True)
        assert out.read_bytes() == (tmp_path / "a.fits").read_bytes()


@pytest.mark.parametrize(("name", "cards"), [("a.fits.fz", {}), ("a.fits.gz", {})])
def test_packed_files(tmp_path, run, name, cards):
    data = sky().astype(np.uint16)
    if name.endswith("fz"):
        unit = fits.CompImageHDU(sky().astype(np.int16))
        unit.header.update(BZERO=32768, BLANK=101, OBJECT="M 67")
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / name)
    else:
        fits.PrimaryHDU(data).writeto(tmp_path / name)
    out = undo(run(tmp_path / name).output)
    before, after = (fits.open(p, do_not_scale_image_data=True) for p in (tmp_path / name, out))
    assert len(before) == len(after)
    assert before[-1].data.dtype == after[-1].data.dtype
    np.testing.assert_array_equal(before[-1].data, after[-1].data)
    for keyword in ("BITPIX", "BZERO", "BSCALE", "BLANK", "OBJECT"):
        assert before[-1].header.get(keyword) == after[-1].header.get(keyword)
    assert not [keyword for keyword in after[-1].header if keyword.startswith("BGR_")]


def test_two_runs_are_undone_one_by_one(tmp_path, run):
    fits.PrimaryHDU(sky().astype(np.int16)).writeto(tmp_path / "a.fits")
    once = run(tmp_path / "a.fits").output
    twice = run(once).output
    back = undo(twice, tmp_path / "once.fits")
    assert fits.getheader(back).tostring() == fits.getheader(once).tostring()
    again = undo(back, tmp_path / "none.fits")
    assert again.read_bytes() == (tmp_path / "a.fits").read_bytes()


# --- all images of a file


@pytest.fixture
def chips(tmp_path):
    """Chips of different levels and types, a constant one, a table, one of another shape."""
    units = [
        fits.PrimaryHDU(header=fits.Header({"NEXTEND": 5})),
        fits.ImageHDU(sky(0).astype(np.uint16), name="CCD1"),
        fits.ImageHDU(sky(1, 5000, 30).astype(np.float32), name="CCD2"),
        fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])], name="LIST"),
        fits.ImageHDU(np.full(SHAPE, 3, np.int16), name="DEAD"),
        fits.ImageHDU(sky(2, 20, 1).T.astype(np.int32), name="CCD3"),
    ]
    fits.HDUList(units).writeto(tmp_path / "mef.fits", checksum=True)
    return tmp_path / "mef.fits"


def test_all_chips_each_with_its_own_sky(chips, run, tmp_path):
    result = run(chips, hdu="all")
    assert any("HDU 4 (DEAD): the image is constant" in told for told in result.warnings)
    with fits.open(result.output, checksum=True) as hdus:
        hdus.verify("exception")
        names = [hdu.name for hdu in hdus[:6]]
        assert names == ["PRIMARY", "CCD1", "CCD2", "LIST", "DEAD", "CCD3"]
        levels = [hdus[name].header["BGR_LEVL"] for name in ("CCD1", "CCD2", "CCD3")]
        planes = [(hdu.name, hdu.ver, hdu.header["BGR_HDU"]) for hdu in hdus[6:-1]]
        assert hdus[-1].name == "UNDO"
        single = fits.getdata(run(chips, hdu="CCD2", prefix="one_").output, "CCD2")
        np.testing.assert_array_equal(hdus["CCD2"].data, single)
    np.testing.assert_allclose(levels, [100, 5000, 20], atol=20)
    order = itertools.product([1, 2, 5], ["BACKGROUND", "NOISE"])
    assert [(name, hdu) for name, _, hdu in planes] == [(name, hdu) for hdu, name in order]
    assert len({plane[:2] for plane in planes}) == 6


def test_all_chips_come_back(chips, run):
    out = undo(run(chips, hdu="ALL").output)
    with fits.open(chips) as a, fits.open(out) as b:
        for before, after in zip(a, b, strict=True):
            assert before.header.tostring() == after.header.tostring()
            if before.is_image and before.data is not None and before.name != "CCD2":
                np.testing.assert_array_equal(before.data, after.data)
        np.testing.assert_allclose(a["CCD2"].data, b["CCD2"].data, rtol=2e-7)


def test_no_chip_that_can_be_done(tmp_path, run):
    units = [fits.PrimaryHDU(), fits.ImageHDU(np.ones(SHAPE)), fits.ImageHDU(np.ones(SHAPE))]
    fits.HDUList(units).writeto(tmp_path / "a.fits")
    with pytest.raises(FitsError, match="a.fits: no image could be done .left alone, HDU 1"):
        run(tmp_path / "a.fits", hdu="all")
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_a_mask_for_each_chip(chips, run, tmp_path):
    with fits.open(chips) as hdus:
        masks = [fits.PrimaryHDU()]
        masks += [
            fits.ImageHDU(
                (h.data > np.median(h.data)).astype("u1") if h.is_image else np.ones((1, 1))
            )
            for h in hdus[1:]
        ]
        fits.HDUList(masks).writeto(tmp_path / "masks.fits")
    with fits.open(
        run(chips, hdu="all", mask=tmp_path / "masks.fits", save=["mask"]).output
    ) as out:
        for hdu in out[6:]:
            mask = fits.getdata(tmp_path / "masks.fits", hdu.header["BGR_HDU"])
            np.testing.assert_array_equal(hdu.data & 2 > 0, mask > 0)


# --- refusals and the command


def test_planes_that_are_missing(tmp_path, run):
    fits.PrimaryHDU(sky()).writeto(tmp_path / "a.fits")
    result = run(tmp_path / "a.fits", save=["noise"])
    with pytest.raises(FitsError, match="its background and noise were not saved"):
        undo(result.output)
    with pytest.raises(FitsError, match="was not written by bgrem, there is nothing to undo"):
        undo(tmp_path / "a.fits")
    whole = run(tmp_path / "a.fits").output
    with fits.open(whole) as hdus:
        fits.HDUList(hdus[:2]).writeto(tmp_path / "cut.fits")
    with pytest.raises(FitsError, match="cut.fits: HDU 0 cannot be undone, NOISE is not in the f"):
        undo(tmp_path / "cut.fits")
    assert not list(tmp_path.glob("restored*"))


def test_the_command(tmp_path, run, capsys):
    fits.PrimaryHDU(sky().astype(np.int16)).writeto(tmp_path / "a.fits")
    output = run(tmp_path / "a.fits").output
    assert main([str(output)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'restored_a.fits'}\n"
    assert main([str(output), str(tmp_path / "a.fits")]) == 1
    told = capsys.readouterr().err.splitlines()
    assert "exists already" in told[0]
    assert told[1].startswith(f"bgrem-undo: {tmp_path / 'a.fits'}: was not written by bgrem")
    assert main([str(output), "--output-dir", str(tmp_path / "new"), "-o", "b.fits"]) == 0
    assert (tmp_path / "new" / "b.fits").read_bytes() == (tmp_path / "a.fits").read_bytes()
    with pytest.raises(SystemExit) as exit:
        main([str(output), str(output), "-o", "c.fits"])
    assert exit.value.code == 2
    assert main([]) == 0


def test_names(tmp_path):
    assert bgrem.undo is undo
    assert restored_path(tmp_path / "BGRem_a.fits.gz") == tmp_path / "restored_a.fits.gz"
    assert restored_path(tmp_path / "x.fits") == tmp_path / "restored_x.fits"


def test_there_and_back_through_the_commands(chips, toy_model_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(module, *arguments):
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)], env=environment,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    done = run(
        "bgrem", "-f", chips, "-h", "all", "--save", "background,noise", "--bayer", "no",
        "--no-companions", "--model", toy_model_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    back = run("bgrem.cli.undo", line.split("  ")[0])
    assert back.returncode == 0, back.stderr
    with fits.open(chips) as a, fits.open(back.stdout.strip()) as b:
        np.testing.assert_array_equal(a["CCD1"].data, b["CCD1"].data)
    refused = run("bgrem.cli.undo", chips)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1


# --- damaged outputs


@pytest.mark.parametrize("name", ["image", "BACKGROUND", "NOISE", "UNDO"])
def test_damaged_data_are_not_undone(tmp_path, run, name):
    fits.writeto(tmp_path / "a.fits", sky().astype(np.int16))
    output = run(tmp_path / "a.fits").output
    with fits.open(output) as hdus:
        place = hdus[0 if name == "image" else name].fileinfo()["datLoc"] + 5
    contents = bytearray(output.read_bytes())
    contents[place] ^= 4
    output.write_bytes(contents)
    with pytest.raises(FitsError, match="does not match its DATASUM"):
        undo(output)
    assert not restored_path(output).exists()


@pytest.mark.parametrize(
    "old, new",
    [
        (b"TTYPE1  = 'HDU     '", b"TTYPE1  =                    5"),
        (b"TFORM2  = '1QB     '", b"TFORM2  = 'nonsense'          "),
        (b"BGR_NHDU=                    1", b"BGR_NHDU=                    x"),
        (b"BGR_NHDU=                    1", b"BGR_NHDU= 'one'               "),
        (b"BGR_NHDU=                    1", b"BGR_NHDU=                  999"),
        (b"BGR_HDU =                    0", b"BGR_HDU =                   -1"),
    ],
)
def test_damaged_cards_are_reported_in_one_sentence(tmp_path, run, old, new):
    fits.writeto(tmp_path / "a.fits", sky().astype(np.int16))
    output = run(tmp_path / "a.fits").output
    contents = output.read_bytes()
    assert old in contents
    output.write_bytes(contents.replace(old, new))
    with pytest.raises(FitsError) as error:
        undo(output)
    assert str(error.value).startswith(f"{output}: ") and "\n" not in str(error.value)
    assert not restored_path(output).exists()
