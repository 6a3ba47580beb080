"""Tiles that are corrupt are refused before a decoder reads them, or in a process that may crash."""

import io
import sys
import time

import numpy as np
import pytest
from astropy.io import fits

from bgrem.arrays.rows import MEMORY, Scratch
from bgrem.io.reading import FitsError, read_image
from bgrem.processing.files import process_files
from bgrem.storage import tile_compression
from bgrem.storage.hdus import find_units
from bgrem.storage.tile_checks import check_tiles

CODECS = ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1")


def tiled(codec, *, dtype=np.int16, checksum=False, **options):
    """The bytes of a file with one tile-compressed image, and its pixels."""
    values = np.random.default_rng(3).normal(200, 5, (48, 40)).astype(dtype)
    file = io.BytesIO()
    unit = fits.CompImageHDU(values, compression_type=codec, **options)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(file, checksum=checksum)
    return bytearray(file.getvalue()), values


def table_of(contents):
    """Offsets of the table and of its heap."""
    with fits.open(io.BytesIO(contents), disable_image_compression=True) as hdus:
        header, data = hdus[1].header, hdus[1].fileinfo()["datLoc"]
    return data, data + header["NAXIS1"] * header["NAXIS2"]


def with_value(contents, keyword, value):
    """The file with another value of a card, or with the card before the last."""
    start = next(
        (i for i in range(0, len(contents), 80)
         if contents[i : i + 8] == keyword.ljust(8).encode()), None,
    )  # fmt: skip
    if start is None:
        start = next(i for i in range(0, len(contents), 80) if contents[i:].startswith(b"EXTNAME"))
    card = f"{keyword:8}= {value:>20}".encode().ljust(80)
    return contents[:start] + card + contents[start + 80 :]


def message(contents, tmp_path):
    path = tmp_path / "a.fits.fz"
    path.write_bytes(contents)
    with pytest.raises(FitsError) as error:
        read_image(path)
    text = str(error.value).removeprefix(f"{path}: ")
    assert text.startswith("HDU 1") and "\n" not in text and len(text) < 300
    return text


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_sound_tiles_are_read(codec, checksum, tmp_path):
    contents, values = tiled(codec, checksum=checksum)
    path = tmp_path / "a.fits.fz"
    path.write_bytes(contents)
    for store in (MEMORY, Scratch(tmp_path, 1e4)):
        np.testing.assert_array_equal(read_image(path, store=store).data[:], values)


@pytest.mark.parametrize("method", [-1, 1, 2])
def test_quantised_floats_are_those_of_astropy(method, tmp_path):
    contents, _ = tiled("RICE_1", dtype=np.float32, quantize_method=method, dither_seed=5)
    path = tmp_path / "a.fits.fz"
    path.write_bytes(contents)
    np.testing.assert_array_equal(read_image(path).data, fits.getdata(path))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "place, number", [(0, 2**31 - 1), (0, -5), (4, 2**31 - 1), (4, -1), (4, 10**6)]
)
def test_descriptors_must_lie_in_the_heap(codec, place, number, tmp_path):
    contents, _ = tiled(codec)
    table, _ = table_of(contents)
    contents[table + place : table + place + 4] = number.to_bytes(4, "big", signed=True)
    assert "tile" in message(contents, tmp_path)


@pytest.mark.parametrize(
    "keyword, value, reason",
    [
        ("ZTILE1", "0", "ZTILEn"), ("ZTILE2", "-3", "ZTILEn"), ("ZTILE1", "7.5", "ZTILEn"),
        ("ZTILE2", "5", "tiles"), ("ZNAXIS2", "49", "tiles"), ("ZNAXIS1", "3000000000", "fit in memory"),
        ("THEAP", "-1", "THEAP"), ("THEAP", "99999999", "THEAP"), ("THEAP", "1.5", "THEAP"),
        ("ZVAL2", "8", "RICE_1"), ("ZVAL2", "0", "RICE_1"), ("ZVAL1", "2000000000", "RICE_1"),
        ("ZVAL1", "0", "RICE_1"), ("ZVAL1", "2.5", "BLOCKSIZE"), ("ZCMPTYPE", "'NONE'", "NONE"),
        ("ZDITHER0", "-7", "ZDITHER0"), ("TFORM1", "'1PZ(9)'", "TFORM1"), ("TFORM1", "'1J'", "TFORM1"),
        ("TTYPE1", "'OTHER'", "COMPRESSED_DATA"),
    ],
)  # fmt: skip
def test_settings_that_a_decoder_would_trust(keyword, value, reason, tmp_path):
    contents, _ = tiled("RICE_1")
    assert reason in message(with_value(contents, keyword, value), tmp_path)


def test_a_short_tile_of_many_pixels_is_refused(tmp_path):
    contents, _ = tiled("RICE_1", tile_shape=(48, 40))
    table, _ = table_of(contents)
    contents[table : table + 4] = (9).to_bytes(4, "big")
    assert "too short for its pixels" in message(contents, tmp_path)


def test_a_list_of_plio_stays_in_its_tile(tmp_path):
    contents, _ = tiled("PLIO_1")
    _, heap = table_of(contents)
    for place, number in ((6, 30000), (8, 30000), (2, -9), (6, 0)):
        changed = bytearray(contents)
        changed[heap + place : heap + place + 2] = number.to_bytes(2, "big", signed=True)
        assert "not that of PLIO_1" in message(changed, tmp_path)


def test_sides_of_hcompress_are_those_of_the_tile(tmp_path):
    contents, _ = tiled("HCOMPRESS_1")
    _, heap = table_of(contents)
    for place, new in ((0, b"ab"), (2, b"\0\0\x10\0"), (6, b"\0\0\0\0"), (22, b"\xff\xff\xff")):
        changed = bytearray(contents)
        changed[heap + place : heap + place + len(new)] = new
        assert "HCOMPRESS_1" in message(changed, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_decoder_that_crashes_fails_one_image(tmp_path, monkeypatch, toy_model):
    program = tmp_path / "crash"
    program.write_text("#!/bin/sh\ncat > /dev/null\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(tile_compression.sys, "executable", str(program))
    for name, checksum in (("a", False), ("b", True)):
        (tmp_path / f"{name}.fits.fz").write_bytes(tiled("RICE_1", checksum=checksum)[0])
    paths = [tmp_path / "a.fits.fz", tmp_path / "b.fits.fz"]
    failed, done = process_files(paths, model=toy_model)
    assert failed.message == (
        f"{paths[0]}: HDU 1 (COMPRESSED_IMAGE) cannot be decompressed "
        "(the decompressor crashed, signal 11)"
    )
    assert done.output.exists()  # its sum proves its tiles


def test_random_changes_of_tiles_end_no_process(tmp_path):
    rng = np.random.default_rng(8)
    for codec in ("RICE_1", "PLIO_1", "HCOMPRESS_1"):
        contents, values = tiled(codec, tile_shape=(48, 40))
        _, heap = table_of(contents)
        for _ in range(3):
            changed = bytearray(contents)
            changed[heap + int(rng.integers(30, 60)) :] = rng.bytes(len(contents) - heap)[:4000]
            path = tmp_path / "a.fits.fz"
            path.write_bytes(changed)
            try:
                assert read_image(path).data.shape == values.shape
            except FitsError as error:
                assert "\n" not in str(error)


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_checks_take_little_time(tmp_path):
    values = np.random.default_rng(3).normal(200, 5, (4000, 64)).astype(np.int16)
    path = tmp_path / "a.fits.fz"
    fits.CompImageHDU(values, compression_type="RICE_1").writeto(path)
    contents = path.read_bytes()
    unit = find_units(contents, path)[0][1]
    began = time.perf_counter()
    check_tiles(contents, unit)
    assert time.perf_counter() - began < 1
