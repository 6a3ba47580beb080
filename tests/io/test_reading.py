"""Reading and writing FITS: what is stored comes out right, and everything else stays as it was."""

import bz2
import gzip
import io

import numpy as np
import pytest
from astropy import wcs as coordinates
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from skies import flat_sky, white_noise

from bgrem.io.reading import FitsError, as_planes, is_fits_name, read_image
from bgrem.io.writing import Product, write_mosaic
from bgrem.storage.hdus import _encoded, ones_complement_sum

SHAPE = (31, 43)
WCS = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.1, "CRVAL2": 2.2, "CRPIX1": 20.0,
    "CRPIX2": 10.0, "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4,
}  # fmt: skip


@pytest.fixture
def pixels():
    return flat_sky(SHAPE, seed=1)


def write(path, data, header=None, **extra):
    fits.PrimaryHDU(data, fits.Header({**(header or {}), **extra})).writeto(path)
    return path


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


def write_one(path, image, sources, *, planes=None, cards=(), history=(), overwrite=False):
    """The file of an image with sources in its place."""
    product = Product(image, sources, planes or {}, cards, history)
    write_mosaic(path, image, [image.hdu], lambda _: product, overwrite=overwrite)


def copy_of(source, path, **options):
    image = read_image(source)
    write_one(path, image, image.data, **options)
    return image


# --- reading


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_every_bitpix(tmp_path, dtype):
    raw = np.arange(31 * 43).reshape(SHAPE) % 200
    image = read_image(stored_with(tmp_path / "a.fits", raw.astype(dtype)))
    assert image.data.dtype == (np.float64 if dtype == "f8" else np.float32)
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, raw)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8"])
def test_scale_zero_and_blank(tmp_path, dtype):
    raw = (np.arange(31 * 43).reshape(SHAPE) % 100).astype(dtype)
    path = stored_with(tmp_path / "a.fits", raw, BSCALE=0.5, BZERO=-7.25, BLANK=13)
    expected = np.where(raw == 13, np.nan, raw * 0.5 - 7.25)
    np.testing.assert_array_equal(read_image(path).data, expected)


@pytest.mark.parametrize(("stored", "zero"), [("i2", 2**15), ("i4", 2**31), ("i8", 2**63)])
def test_unsigned(tmp_path, stored, zero):
    values = np.arange(31 * 43, dtype=np.uint64).reshape(SHAPE)
    raw = (values.astype(np.int64) + (-zero)).astype(stored) if zero < 2**63 else None
    if raw is None:
        raw = (values ^ np.uint64(2**63)).view(np.int64)
    image = read_image(stored_with(tmp_path / "a.fits", raw, BZERO=zero, BLANK=int(raw[2, 3])))
    expected = values.astype(float)
    expected[2, 3] = np.nan
    assert image.data.dtype == np.float32
    np.testing.assert_array_equal(image.data, expected)


def test_integers_beyond_float32_are_read_in_double(tmp_path):
    raw = np.full(SHAPE, 2**24, dtype=np.int32)
    raw[1, 1] += 1
    image = read_image(stored_with(tmp_path / "a.fits", raw))
    assert image.data.dtype == np.float64
    assert image.data[1, 1] == 2**24 + 1


def test_scaled_floats(tmp_path, pixels):
    image = read_image(stored_with(tmp_path / "a.fits", pixels, BSCALE=2.0, BZERO=10.0))
    assert image.data.dtype == np.float32
    np.testing.assert_allclose(image.data, pixels * 2.0 + 10.0, rtol=1e-6)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_whatever_the_name_says(tmp_path, pixels, pack):
    plain = write(tmp_path / "a.fits", pixels)
    packed = tmp_path / "b.fits"
    packed.write_bytes(pack(plain.read_bytes()))
    np.testing.assert_array_equal(read_image(packed).data, pixels)


@pytest.mark.parametrize("codec", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
def test_tile_compressed_integers(tmp_path, codec):
    raw = np.arange(31 * 43, dtype=np.int16).reshape(SHAPE)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(raw, compression_type=codec)]).writeto(
        tmp_path / "a.fits.fz"
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.fits.fz").data, raw)


def test_tile_compressed_unsigned_with_blank(tmp_path):
    raw = np.arange(31 * 43, dtype=np.int16).reshape(SHAPE)
    unit = fits.CompImageHDU(raw)
    unit.header.update(BZERO=32768, BLANK=5)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "a.fits.fz")
    expected = np.where(raw == 5, np.nan, raw + 32768.0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.fits.fz").data, expected)


# --- which HDU


@pytest.fixture
def mosaic(tmp_path, pixels):
    """A multi-extension file: empty primary, two images, a table, a compressed image."""
    table = fits.BinTableHDU.from_columns([fits.Column("A", "PJ()", array=[[1, 2], [3]])])
    units = [
        fits.PrimaryHDU(),
        fits.ImageHDU(pixels, fits.Header({**WCS, "BUNIT": "adu"}), name="SCI"),
        table,
        fits.CompImageHDU(np.arange(31 * 43, dtype=np.int32).reshape(SHAPE), name="DQ"),
        fits.ImageHDU(pixels * 2, name="SCI", ver=2),
        fits.ImageHDU(np.arange(9.0), name="LINE"),
    ]
    fits.HDUList(units).writeto(tmp_path / "mosaic.fits", checksum=True)
    return tmp_path / "mosaic.fits"


@pytest.mark.parametrize(
    ("hdu", "index"), [(None, 1), (1, 1), ("1", 1), ("sci", 1), ("SCI,2", 4), ("DQ", 3), (4, 4)]
)
def test_hdu_by_number_and_name(mosaic, hdu, index):
    assert read_image(mosaic, hdu).hdu == index


def test_default_hdu_says_which_one_it_took(mosaic):
    assert read_image(mosaic).notes == ("HDU 0 holds no image, took HDU 1 (SCI)",)
    assert read_image(mosaic, 1).notes == ()


@pytest.mark.parametrize(
    ("hdu", "sentence"),
    [
        (0, "HDU 0 holds no image; images are in HDU 1 (SCI)"),
        (2, "HDU 2 holds a table"),
        (6, "there is no HDU 6, the file has 6"),
        (-1, "there is no HDU -1"),
        ("ERR", "there is no HDU named ERR (names in the file: SCI"),
        ("LINE", "HDU 5 (LINE) is one-dimensional (9)"),
    ],
)
def test_hdu_that_cannot_be_used(mosaic, hdu, sentence):
    with pytest.raises(FitsError, match="mosaic.fits: ") as caught:
        read_image(mosaic, hdu)
    assert sentence in str(caught.value)


def test_planes():
    assert as_planes(np.zeros((5, 7))).shape == (1, 5, 7)
    assert as_planes(np.zeros((1, 1, 5, 7))).shape == (1, 5, 7)
    assert as_planes(np.zeros((5, 7, 1))).shape == (1, 5, 7)
    assert as_planes(np.zeros((2, 6, 5, 7))).shape == (12, 5, 7)
    assert as_planes(np.zeros((2, 1, 5, 7))).shape == (2, 5, 7)
    assert as_planes(np.zeros((50, 70, 3))).shape == (3, 50, 70)
    assert as_planes(np.zeros((1, 7))).shape == (1, 1, 7)


@pytest.mark.parametrize("shape", [(5, 7), (1, 1, 5, 7), (2, 6, 5, 7), (50, 70, 3)])
def test_planes_are_a_view(shape):
    array = np.zeros(shape)
    as_planes(array)[...] = 1
    assert array.all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.fits", True), ("A.FIT", True), ("a.fts.gz", True), ("a.fits.fz", True), ("a.b.fit.bz2", True),
     ("a.gz", False), ("a.png", False), ("fits", False)],
)  # fmt: skip
def test_fits_names(tmp_path, name, expected):
    assert is_fits_name(tmp_path / name) is expected


# --- refusals


def refusal(path):
    with pytest.raises(FitsError) as caught:
        read_image(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_not_a_fits_file(tmp_path):
    path = tmp_path / "a.fits"
    assert refusal(path) == "no such file"
    path.write_bytes(b"")
    assert refusal(path) == "the file is empty"
    path.write_bytes(b"<!DOCTYPE html><html></html>")
    assert refusal(path) == "not a FITS file"
    assert "cannot be read" in refusal(tmp_path)


def test_truncated_is_refused_not_padded(tmp_path, pixels):
    whole = write(tmp_path / "a.fits", pixels).read_bytes()
    path = tmp_path / "b.fits"
    path.write_bytes(whole[: 2880 + pixels.nbytes - 1])
    assert refusal(path) == "truncated, HDU 0 announces 5332 bytes of data and the file has 5331"
    path.write_bytes(whole[:300])
    assert refusal(path) == "truncated, the header of HDU 0 has no END"
    path.write_bytes(gzip.compress(whole)[:-100])
    assert refusal(path) == "truncated, the gzip stream ends too early"
    path.write_bytes(bz2.compress(whole)[:-100])
    assert "truncated" in refusal(path) or "corrupt bzip2" in refusal(path)


def test_a_truncated_later_extension_is_refused(mosaic):
    mosaic.write_bytes(mosaic.read_bytes()[:-2880])
    assert refusal(mosaic).startswith("truncated, HDU 5 (LINE) announces 72 bytes")


def test_unpadded_and_trailing_bytes_are_read(tmp_path, pixels):
    whole = write(tmp_path / "a.fits", pixels).read_bytes()
    path = tmp_path / "b.fits"
    path.write_bytes(whole[: 2880 + pixels.nbytes])
    np.testing.assert_array_equal(read_image(path).data, pixels)
    path.write_bytes(whole + b"garbage" * 100)
    image = read_image(path)
    np.testing.assert_array_equal(image.data, pixels)
    assert image.notes == ("ignored 700 bytes after the last HDU",)


def test_corrupt_gzip(tmp_path, pixels):
    packed = bytearray(gzip.compress(write(tmp_path / "a.fits", pixels).read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "b.fits.gz"
    path.write_bytes(packed)
    assert refusal(path).startswith("corrupt gzip stream")


def test_corrupt_header(tmp_path, pixels):
    whole = write(tmp_path / "a.fits", pixels).read_bytes()
    path = tmp_path / "b.fits"
    path.write_bytes(whole.replace(b"                  -32 ", b"                  -33 "))
    assert refusal(path) == "HDU 0 has a corrupt header (BITPIX is -33)"


def test_corrupt_tiles(tmp_path):
    unit = fits.CompImageHDU(
        np.arange(31 * 43, dtype=np.int32).reshape(SHAPE), compression_type="GZIP_1"
    )
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
    contents = bytearray(path.read_bytes())
    contents[-2880 - 2000 : -2880] = b"\xff" * 2000
    path.write_bytes(contents)
    assert refusal(path).startswith("HDU 1 (COMPRESSED_IMAGE) cannot be decompressed")


def test_absurd_compressed_size(tmp_path):
    unit = fits.CompImageHDU(np.arange(31 * 43, dtype=np.int32).reshape(SHAPE))
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
    card = b"ZNAXIS1 =                   43"
    assert card in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(card, b"ZNAXIS1 =       99999999999999"))
    assert "more than fit in memory" in refusal(path)


def test_wrong_datasum_is_noticed(tmp_path, pixels):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(pixels).writeto(path, checksum=True)
    assert read_image(path).notes == ()
    contents = bytearray(path.read_bytes())
    contents[2880] ^= 1
    path.write_bytes(contents)
    assert "does not match its DATASUM" in read_image(path).notes[0]


# --- writing


def test_other_hdus_are_carried_byte_for_byte(mosaic, tmp_path):
    copy_of(mosaic, tmp_path / "out.fits", planes={"NOISE": np.zeros(SHAPE, np.float32)})
    before, after = units_of(mosaic), units_of(tmp_path / "out.fits")
    assert len(after) == len(before) + 1
    for i in (0, 2, 3, 4, 5):
        assert before[i] == after[i]
    with fits.open(tmp_path / "out.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert hdus[1].header["BUNIT"] == "adu"
        assert hdus[1].name == "SCI"


def units_of(path):
    contents = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdus:
        places = [hdu.fileinfo() for hdu in hdus]
    return [contents[p["hdrLoc"] : p["datLoc"] + p["datSpan"]] for p in places]


def test_header_and_checksums(tmp_path, pixels):
    header = fits.Header(
        {**WCS, "BUNIT": "electron", "OBJECT": "M 67", "DATAMIN": 0.0, "DATAMAX": 9.0}
    )
    header["LONGTEXT"] = "a string that does not fit on one card and goes on " * 3
    header["DUPL"] = 1
    header.append(("DUPL", 2))
    header.add_comment("kept")
    header.add_history("kept as well")
    raw = (pixels * 10).astype(np.int16)
    hdu = fits.PrimaryHDU(raw, header)
    hdu.header.update(BSCALE=0.1, BZERO=5.0, BLANK=-1)
    hdu.writeto(tmp_path / "a.fits", checksum=True)
    image = copy_of(
        tmp_path / "a.fits", tmp_path / "b.fits", cards=[("BGR_RMS", 1.5, "rms")], history=["bgrem"]
    )
    with fits.open(tmp_path / "b.fits", checksum=True) as hdus:
        result = hdus[0].header
        assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1
        np.testing.assert_array_equal(hdus[0].data, image.data)
    for keyword in ("BSCALE", "BZERO", "BLANK", "DATAMIN", "DATAMAX"):
        assert keyword not in result
    for keyword in (*WCS, "BUNIT", "OBJECT", "LONGTEXT"):
        assert result[keyword] == header[keyword]
    assert [card.value for card in result.cards if card.keyword == "DUPL"] == [1, 2]
    assert list(result["HISTORY"]) == ["kept as well", "bgrem"]
    assert result["BITPIX"] == -32
    assert result["BGR_RMS"] == 1.5


def test_a_second_run_replaces_the_provenance(tmp_path, pixels):
    write(tmp_path / "a.fits", pixels)
    copy_of(
        tmp_path / "a.fits",
        tmp_path / "b.fits",
        cards=[("BGR_RMS", 1.0, ""), ("BGR_FWHM", 2.0, "")],
    )
    copy_of(tmp_path / "b.fits", tmp_path / "c.fits", cards=[("BGR_RMS", 3.0, "")])
    assert dict(fits.getheader(tmp_path / "c.fits")["BGR_*"]) == {"BGR_RMS": 3.0}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tile_compressed_stays_so_without_loss(tmp_path, dtype):
    noisy = flat_sky(SHAPE, 0, 1, seed=2, dtype=dtype)
    noisy[3, 3] = np.nan
    unit = fits.CompImageHDU(noisy, fits.Header(WCS), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "a.fits.fz", checksum=True)
    image = read_image(tmp_path / "a.fits.fz")
    out = flat_sky(SHAPE, 0, 1, seed=3, dtype=dtype)
    write_one(
        tmp_path / "b.fits.fz", image, out, planes={"NOISE": out, "MASK": (out > 0).view(np.uint8)}
    )
    with fits.open(tmp_path / "b.fits.fz", disable_image_compression=True, checksum=True) as hdus:
        assert [hdu.header.get("ZCMPTYPE") for hdu in hdus] == [None, "GZIP_2", "GZIP_2", "GZIP_2"]
        assert all(hdu.verify_checksum() == 1 for hdu in hdus[1:])
    with fits.open(tmp_path / "b.fits.fz") as hdus:
        np.testing.assert_array_equal(hdus[1].data, out)
        assert hdus[1].header["CRVAL1"] == 150.1
        np.testing.assert_array_equal(hdus["NOISE"].data, out)
        np.testing.assert_array_equal(hdus["MASK"].data, out > 0)


@pytest.mark.parametrize(("name", "magic"), [("b.fits.gz", b"\x1f\x8b"), ("b.fits.bz2", b"BZh")])
def test_the_name_decides_the_packing(tmp_path, pixels, name, magic):
    write(tmp_path / "a.fits", pixels)
    copy_of(tmp_path / "a.fits", tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(magic)
    np.testing.assert_array_equal(fits.getdata(tmp_path / name), pixels)
    copy_of(tmp_path / "a.fits", tmp_path / name, overwrite=True)
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("shape", [(1, 1, 31, 43), (3, 31, 43), (31, 43, 3)])
def test_shapes_are_restored(tmp_path, shape):
    cube = white_noise(shape, seed=4)
    write(tmp_path / "a.fits", cube, NEXTEND=0)
    copy_of(
        tmp_path / "a.fits",
        tmp_path / "b.fits",
        planes={"NOISE": cube, "MASK": cube.astype(np.uint8)},
    )
    with fits.open(tmp_path / "b.fits", checksum=True) as hdus:
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus[0].data, cube)
        assert hdus["NOISE"].shape == hdus["MASK"].shape == shape
        assert hdus[0].header["EXTEND"] is True
        assert hdus[0].header["NEXTEND"] == 2


def test_planes_carry_the_wcs_and_their_version(tmp_path, pixels):
    units = [
        fits.PrimaryHDU(pixels, fits.Header({**WCS, "BUNIT": "adu"})),
        fits.ImageHDU(pixels, name="MASK"),
    ]
    fits.HDUList(units).writeto(tmp_path / "a.fits")
    copy_of(
        tmp_path / "a.fits",
        tmp_path / "b.fits",
        planes={"MASK": np.ones(SHAPE, np.int16), "RMS": pixels},
    )
    with fits.open(tmp_path / "b.fits") as hdus:
        assert [(hdu.name, hdu.ver) for hdu in hdus[1:]] == [("MASK", 1), ("MASK", 2), ("RMS", 1)]
        for hdu in hdus[2:]:
            assert all(hdu.header[keyword] == value for keyword, value in WCS.items())
        assert "BUNIT" not in hdus[2].header
        assert hdus[3].header["BUNIT"] == "adu"


@pytest.mark.parametrize("compressed", [False, True])
def test_statements_about_old_pixel_values_go(tmp_path, pixels, compressed):
    stale = ("DATAMIN", "DATAMEAN", "GOODMAX", "SNRMEAN", "IRAF-MAX", "IRAF-BPX", "ALLG-MIN")
    header = fits.Header({**dict.fromkeys(stale, 5.0), "DATAMODE": "x", "GOODPIX": 3})
    unit = (fits.CompImageHDU if compressed else fits.ImageHDU)(pixels, header)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "a.fits")
    copy_of(tmp_path / "a.fits", tmp_path / "b.fits", planes={"NOISE": pixels})
    for hdu in (1, "NOISE"):
        found = fits.getheader(tmp_path / "b.fits", hdu)
        assert not set(stale) & set(found)
        assert {"DATAMODE", "GOODPIX"} <= set(found)


def lookup_file(path, pixels):
    """An image whose coordinates depend on tables in other HDUs, with its time and its unit."""
    image = fits.ImageHDU(pixels, fits.Header({**WCS, "RESTFRQ": 1.42e9}), name="SCI")
    header, units = image.header, [fits.PrimaryHDU(), image]
    header.update({"DATE-OBS": "2020-01-01", "MJD-OBS": 58849.0, "SPECSYS": "LSRK", "FILTER": "r"})
    header.update(BUNIT="adu", SATURATE=6e4, DATAMIN=0.0, EXTLEVEL=1, HDUCLAS2="DATA", WAT0_001="x")
    for n in (1, 2):
        header.append((f"CPDIS{n}", "LOOKUP"))
        for text in (f"EXTVER: {n}.0", "NAXES: 2.0", "AXIS.1: 1.0", "AXIS.2: 2.0"):
            header.append(fits.Card.fromstring(f"DP{n}     = '{text}'"))
        table = fits.ImageHDU(white_noise((32, 64), seed=n), name="WCSDVARR", ver=n)
        table.header.update(CRPIX1=0.0, CRPIX2=0.0, CRVAL1=1.0, CRVAL2=1.0, CDELT1=4.0, CDELT2=8.0)
        units.append(table)
    fits.HDUList(units).writeto(path)
    return path


def test_planes_carry_all_that_describes_the_image(tmp_path, pixels):
    planes = {"NOISE": pixels, "MASK": np.ones(SHAPE, np.uint8)}
    copy_of(lookup_file(tmp_path / "a.fits", pixels), tmp_path / "b.fits", planes=planes)
    with fits.open(tmp_path / "b.fits") as hdus:
        hdus.verify("exception")
        place = np.array([[10.0, 20.0], [40.0, 3.0]])
        expected = coordinates.WCS(hdus["SCI"].header, hdus).all_pix2world(place, 1)
        for name in planes:
            header = hdus[name].header
            found = coordinates.WCS(header, hdus).all_pix2world(place, 1)
            np.testing.assert_array_equal(found, expected)
            assert {"DATE-OBS", "MJD-OBS", "RESTFRQ", "SPECSYS", "FILTER", "WAT0_001"} <= set(
                header
            )
            assert not {"SATURATE", "DATAMIN", "EXTLEVEL", "HDUCLAS2"} & set(header)
            assert ("BUNIT" in header) is (name == "NOISE")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_mask_does_not_inherit_a_unit(tmp_path, pixels, compressed):
    primary = fits.PrimaryHDU(header=fits.Header({"BUNIT": "adu", "INHERIT": False}))
    image = (fits.CompImageHDU if compressed else fits.ImageHDU)(pixels, name="SCI")
    image.header["INHERIT"] = True
    fits.HDUList([primary, image]).writeto(tmp_path / "a.fits")
    planes = {"RMS": pixels, "MASK": np.ones(SHAPE, np.uint8)}
    copy_of(tmp_path / "a.fits", tmp_path / "b.fits", planes=planes)
    with fits.open(tmp_path / "b.fits") as hdus:
        assert hdus["MASK"].header["BUNIT"] == ""
        assert "BUNIT" not in hdus["RMS"].header
        assert hdus["RMS"].header["INHERIT"] is True


def test_planes_of_a_primary_image_are_extensions(tmp_path, pixels):
    header = fits.Header({**WCS, "INHERIT": True, "OBJECT": "M 67", "NEXTEND": 0})
    header["HISTORY"] = "flat"
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / "a.fits")
    copy_of(tmp_path / "a.fits", tmp_path / "b.fits", planes={"NOISE": pixels})
    found = fits.getheader(tmp_path / "b.fits", "NOISE")
    assert not {"SIMPLE", "EXTEND", "NEXTEND", "INHERIT"} & set(found)
    assert found["OBJECT"] == "M 67"
    assert list(found["HISTORY"]) == ["flat"]


def test_nothing_is_left_of_a_failed_write(tmp_path, pixels):
    path = write(tmp_path / "a.fits", pixels)
    image = read_image(path)

    class Interrupted(np.ndarray):
        def reshape(self, *shape):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_one(tmp_path / "b.fits", image, pixels.view(Interrupted))
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits"]
    with pytest.raises(FitsError, match="cannot be written"):
        write_one(tmp_path / "a.fits" / "b.fits", image, pixels)
    with pytest.raises(FitsError, match="would overwrite the input"):
        write_one(path, image, pixels, overwrite=True)
    other = write(tmp_path / "c.fits", pixels)
    with pytest.raises(FitsError, match="exists already"):
        write_one(other, image, pixels)


# --- checksums


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_checksum_text_sums_to_the_value(value):
    text = _encoded(value)
    assert len(text) == 16
    assert text.isalnum()
    # In a header the text begins one byte after a word boundary, hence the rotation.
    words = np.frombuffer((text[1:] + text[0]).encode(), ">u4")
    offset = ones_complement_sum(np.frombuffer(b"0" * 16, ">u4"))
    total = ones_complement_sum(words)
    assert total % (2**32 - 1) == (value + offset) % (2**32 - 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from(["u1", "i2", "i4", "f4", "f8"]))
def test_checksums_agree_with_astropy(tmp_path_factory, ny, nx, dtype):
    folder = tmp_path_factory.mktemp("sums")
    data = np.random.default_rng(ny * nx).integers(0, 255, (ny, nx)).astype(dtype)
    image = read_image(write(folder / "a.fits", np.ones((ny, nx), np.float32)))
    write_one(folder / "b.fits", image, data)
    with fits.open(io.BytesIO((folder / "b.fits").read_bytes()), checksum=True) as hdus:
        assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1
        np.testing.assert_array_equal(hdus[0].data, data)
