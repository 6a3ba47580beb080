"""The original file is restored from the products."""

import bz2
import gzip
import itertools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_files import card, counts, head, header_bytes, odd_files, plain
from skies import flat_sky

import bgrem
from bgrem.cli.undo import main
from bgrem.io.reading import FitsError, read_image
from bgrem.io.restore import restored_path, undo
from bgrem.processing.files import process_file
from bgrem.storage.hdus import ones_complement_sum, words_of

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (40, 50)
SAVE = ("background", "noise")
DATA = Path(os.environ.get("BGREM_SHARED_DATA", ROOT.parent / "shared" / "data"))
SMALL = [
    DATA / name
    for name in (
        "robust/astropy_comp.fits", "robust/fitsio_test_rice_dither2_seed42.fits.fz",
        "robust/synth_inf_nan.fits", "robust/synth_int64.fits",
        "robust/synth_trailing_garbage.fits", "robust/synth_unpadded.fits",
        "optical/cfht_raw_int16_cutout.fits", "optical/feder_eyuma_thumbnail.fit.gz",
        "optical/hst_wfpc2_4plane_cube.fits", "optical/kepler_kplr-ffi_ch01_test.fits",
        "optical/lsstafw_HSC-0908120-056-small.fits", "pairs/decam_OBS04a_single.fits.gz",
    )
]  # fmt: skip


@pytest.fixture
def run(toy_model):
    return partial(process_file, model=toy_model, save=SAVE, overwrite=True)


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
    fits.PrimaryHDU(sky().astype(dtype)).writeto(tmp_path / "a.fits")
    out = undo(run(tmp_path / "a.fits", **options).output)
    assert out.read_bytes() == (tmp_path / "a.fits").read_bytes()


# --- floats


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e9])
def test_floats_come_back_byte_for_byte(tmp_path, run, dtype, unit):
    data = (sky(level=3.0) * unit).astype(dtype)
    data[2, 2:5] = np.nan, np.inf, -np.inf
    data[7, 7] = 1e30
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    out = undo(run(tmp_path / "a.fits").output)
    assert out.read_bytes() == (tmp_path / "a.fits").read_bytes()


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
    assert header_cards(back) == header_cards(once)
    assert back.stat().st_size == once.stat().st_size
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


# --- odd headers and ends of files


@pytest.mark.parametrize("name", odd_files())
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_odd_files_are_restored_byte_for_byte(tmp_path, run, name):
    path = tmp_path / "a.fits"
    path.write_bytes(odd_files()[name])
    output = run(path).output
    assert undo(output).read_bytes() == path.read_bytes()
    image = read_image(output)
    assert [unit.name for unit in image.units][-3:] == ["BACKGROUND", "NOISE", "UNDO"]
    with fits.open(output) as hdus:
        assert hdus[0].data.shape == SHAPE
    assert image.header["EXTEND"] is True
    assert not {"BZERO", "BSCALE", "BLANK"} & set(image.header)


@pytest.mark.parametrize("name", odd_files())
def test_cards_of_the_output_are_those_of_the_input(tmp_path, run, name):
    changed = (
        b"BITPIX", b"EXTEND", b"NEXTEND", b"BZERO", b"BSCALE", b"BLANK", b"DATAMAX", b"CHECKSUM",
        b"DATASUM", b"BGR_", b"HIERARCH BGR_",
    )  # fmt: skip
    path = tmp_path / "a.fits"
    path.write_bytes(odd_files()[name])
    before, after = header_cards(path), header_cards(run(path).output)
    before = [line.replace(b"\0", b" ") for line in before]  # astropy needs them without
    kept = [line for line in before if not line.upper().startswith(changed)]
    assert [line for line in after if line in kept][: len(kept)] == kept


def header_cards(path):
    """The cards of the first header, without END."""
    contents = path.read_bytes()
    lines = [contents[i : i + 80] for i in range(0, len(contents), 80)]
    return lines[: next(i for i, line in enumerate(lines) if line[:4] in (b"END ", b"END\0"))]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.binary(min_size=80, max_size=80), max_size=40),
    st.binary(max_size=3000),
    st.sampled_from([b" ", b"\0", b"?"]),
)
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_any_cards_and_ends_are_restored(tmp_path_factory, toy_model, cards, rest, fill):
    cards = [line for line in cards if line[:3] != b"END"]
    body = counts().tobytes()
    folder = tmp_path_factory.mktemp("any")
    path = folder / "a.fits"
    whole = header_bytes([*head(), *cards], end=b"END".ljust(80), fill=fill) + body
    path.write_bytes(whole + fill * (-len(body) % 2880) + rest)
    out = undo(process_file(path, model=toy_model, save=SAVE).output)
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["a.fits.gz", "a.fits.bz2"])
def test_compressed_files_have_the_same_content(tmp_path, run, name):
    path = tmp_path / name
    opened = gzip.open if name.endswith("gz") else bz2.open
    content = odd_files()["trailing bytes"]
    with opened(path, "wb") as file:
        file.write(content)
    with opened(undo(run(path).output)) as file:
        assert file.read() == content


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_bits_of_nan_are_restored(tmp_path, run, dtype):
    data = sky().astype(dtype)
    bits = data.view(f"u{data.itemsize}")
    bits[3, :20] = np.iinfo(bits.dtype).max
    data[4, 4] = np.nan
    bits[5, 5] = np.iinfo(bits.dtype).max - 7
    path = stored_with(tmp_path / "a.fits", data)
    out = undo(run(path).output)
    before, after = (p.read_bytes()[2880 : 2880 + data.nbytes] for p in (path, out))
    before, after = (np.frombuffer(text, f">u{data.itemsize}") for text in (before, after))
    nan = np.isnan(data).ravel()
    np.testing.assert_array_equal(before[nan], after[nan])
    assert header_cards(path) == header_cards(out)


@pytest.mark.parametrize("memory", [None, 1e9])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_chip_of_an_odd_file(tmp_path, run, memory, suffix):
    primary = header_bytes(
        [*head(8, ()), card("EXTEND  = F"), card("NEXTEND = 3 / count"), card("CHECKSUM= 'x'")],
        fill=b"\0",
    )
    chips = [
        plain(
            ["INHERIT = T", "BUNIT   = 'adu'", f"COMMENT {n} \xb0", "NEXTEND = 3"],
            first=[card("XTENSION= 'IMAGE'"), *head()[1:], card("PCOUNT  = 0"), card("GCOUNT  = 1")],
            pixels=counts(seed=n), after=b" ",
        )
        for n in range(3)
    ]  # fmt: skip
    content = primary + b"".join(chips) + b"the end"
    path = tmp_path / f"a.fits{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    output = run(path, hdu="all", memory=memory).output
    with fits.open(output) as hdus:
        assert hdus[0].header["NEXTEND"] == len(hdus) - 1 == 10
        assert hdus[2].header["NEXTEND"] == 10
        assert hdus[0].header["EXTEND"] is True
    assert sums(output) == [0xFFFFFFFF] * 11
    restored = undo(output).read_bytes()
    assert (gzip.decompress(restored) if suffix else restored) == content


def test_a_chip_left_alone_does_not_count(tmp_path, run):
    units = [fits.PrimaryHDU(header=fits.Header({"NEXTEND": 2}))]
    units += [fits.ImageHDU(sky().astype("i2")), fits.ImageHDU(np.ones(SHAPE, "i2"))]
    fits.HDUList(units).writeto(tmp_path / "a.fits", checksum=True)
    output = run(tmp_path / "a.fits", hdu="all").output
    with fits.open(output, checksum=True) as hdus:
        assert hdus[0].header["NEXTEND"] == len(hdus) - 1 == 5
        assert hdus[0].verify_checksum() == 1
    assert undo(output).read_bytes() == (tmp_path / "a.fits").read_bytes()


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4"])
def test_cards_of_a_tile_compressed_image(tmp_path, run, dtype):
    unit = fits.CompImageHDU(sky().astype(dtype), fits.Header({"OBJECT": "M 67"}))
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "a.fits.fz", checksum=True)
    odd = [
        "FILTER  = 'r'", "FILTER  = 'g'", "        a comment without a keyword", "object  = 'x'",
        "TELESCOP= '\xb5250'", "ZMINE   = 5", "BZERO   =                    7", "ZEXTEND = F / no",
        "NEXTEND = 0",
    ]  # fmt: skip
    path = with_cards(tmp_path / "a.fits.fz", [card(text) for text in odd])
    output = run(path, save=(*SAVE, "mask")).output
    back = undo(output)
    for name in (output, back):
        lines = [line for line in cards_at(name, 1) if line in [card(text) for text in odd]]
        kept = [text for text in odd if name is back or text[:5] not in ("BZERO", "ZEXTE", "NEXTE")]
        assert lines == [card(text) for text in kept]
    with fits.open(output, disable_image_compression=True) as hdus:
        assert hdus[1].header["NEXTEND"] == 4
        assert hdus[1].header["ZEXTEND"] is True
        planes = hdus[2:5]
        assert all(hdu.header.count("FILTER") == 2 for hdu in planes)
        assert all("BZERO" not in hdu.header for hdu in planes)
        assert all("ZMINE" in hdu.header for hdu in planes)
    before, after = cards_at(path, 1), cards_at(back, 1)
    tiles = (b"NAXIS", b"PCOUNT", b"T", b"Z", b"CHECKSUM", b"DATASUM")
    assert [c for c in before if not c.startswith(tiles)] == [
        c for c in after if not c.startswith(tiles)
    ]
    np.testing.assert_allclose(fits.getdata(back, 1), fits.getdata(path, 1), rtol=2e-7)
    assert sums(output)[1:] == [0xFFFFFFFF] * 5
    assert sums(back)[1] == 0xFFFFFFFF


def sums(path):
    """Ones' complement sums of the HDUs; those with a right CHECKSUM give minus 0."""
    image = read_image(path)
    parts = [image.contents[unit.start : unit.end] for unit in image.units]
    return [ones_complement_sum(words_of(part)) for part in parts]


def with_cards(path, cards):
    """Add cards before the END of the second header of a file."""
    contents = path.read_bytes()
    end = contents.index(b"END" + b" " * 77, 2880)
    start = -(-(end + 1) // 2880) * 2880
    header = contents[2880:end] + b"".join(cards) + b"END"
    path.write_bytes(
        contents[:2880] + header.ljust(-(-len(header) // 2880) * 2880) + contents[start:]
    )
    return path


def cards_at(path, hdu):
    image = read_image(path, hdu)
    unit = image.units[hdu]
    header = image.contents[unit.start : unit.data]
    lines = [header[i : i + 80] for i in range(0, len(header), 80)]
    return lines[: next(i for i, line in enumerate(lines) if line.startswith(b"END "))]


@pytest.mark.parametrize(
    "path", [path for path in SMALL if path.exists()], ids=lambda path: path.name
)
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_real_files_are_restored(path, tmp_path, run, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "robust"))
    import undo as benchmark

    row = benchmark.row_of(path, tmp_path, run.keywords["model"])
    assert row["restored"] in ("same bytes", "same cards and pixels"), row["note"]


# --- refusals and the command


def test_a_table_that_is_missing(tmp_path, run):
    fits.PrimaryHDU(sky()).writeto(tmp_path / "a.fits")
    with fits.open(run(tmp_path / "a.fits").output) as hdus:
        fits.HDUList(hdus[:3]).writeto(tmp_path / "cut.fits")
    with pytest.raises(FitsError, match="HDU 0 cannot be undone, the file has no table UNDO of it"):
        undo(tmp_path / "cut.fits")


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


def test_a_corrupt_table_is_refused(tmp_path, run):
    fits.PrimaryHDU(sky()).writeto(tmp_path / "a.fits")
    output = run(tmp_path / "a.fits").output
    contents = bytearray(output.read_bytes())
    unit = read_image(output).units[-1]
    contents[unit.data + 4 : unit.data + 12] = b"\x7f" * 8
    output.write_bytes(contents)
    with pytest.raises(FitsError, match=r"HDU 3 .UNDO. does not match its DATASUM"):
        undo(output)
    assert not list(tmp_path.glob("restored*"))


def test_an_output_that_astropy_wrote_again(tmp_path, run):
    path = tmp_path / "a.fits"
    path.write_bytes(odd_files()["other HDU, trailing bytes"])
    with fits.open(run(path).output) as hdus:
        hdus[0].header["OBJECT"] = "M 67"
        hdus.writeto(tmp_path / "again.fits")
    assert undo(tmp_path / "again.fits").read_bytes() == path.read_bytes()


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
