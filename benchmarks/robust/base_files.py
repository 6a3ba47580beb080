"""Small FITS files of every kind that bgrem reads, as bytes, from which broken files are made."""

import bz2
import gzip
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from astropy.io import fits

__all__ = ["KINDS", "base_file"]


def _sky(rng, shape, dtype=np.float32):
    """Noise on a level with a few sources."""
    values = rng.normal(200, 5, shape)
    height, width = shape[-2:]
    for _ in range(6):
        y, x = rng.integers(0, height), rng.integers(0, width)
        values[..., y, x] += rng.uniform(50, 3000)
    return np.rint(values).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)


def _side(rng):
    return int(rng.choice([16, 24, 33, 48, 64, 96], p=[0.05, 0.1, 0.2, 0.3, 0.2, 0.15]))


def _shape(rng):
    return _side(rng), _side(rng)


def _cards(rng, header):
    """What headers of observatories hold beside the structure."""
    header["OBJECT"] = "field"
    header["BUNIT"] = "adu"
    header["GAIN"] = 1.5
    header["SATURATE"] = 60000.0
    header["INSTRUME"] = "WFC3"
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 150.0, 2.0, 8.0, 8.0
    header["CD1_1"], header["CD2_2"] = -1e-4, 1e-4
    header["LONGTEXT"] = "a text of many words that is longer than a card can hold, " * 2
    header["HIERARCH ESO DET CHIP1 ID"] = "chip"
    for i in range(int(rng.integers(0, 30))):
        header[f"KEY{i}"] = (i * 1.5, "a comment")
    header.add_history("made for a test")
    header.add_comment("a comment")


def _plain(dtype, scaled=False, cube=False):
    def make(rng):
        shape = _shape(rng)
        data = _sky(rng, (2, *shape) if cube else shape, dtype)
        unit = fits.PrimaryHDU(data)
        _cards(rng, unit.header)
        if scaled:
            unit.header["BLANK"] = -32768
        return [unit]

    return make


def _table(rng):
    rows = np.zeros(5, dtype=[("ID", "i4"), ("FLUX", "f8"), ("NAME", "S8")])
    rows["FLUX"] = rng.normal(size=5)
    return fits.BinTableHDU(rows, name="CATALOG")


def _ascii_table(rng):
    columns = [
        fits.Column("A", "I6", array=np.arange(4)),
        fits.Column("B", "E12.4", array=rng.normal(size=4)),
    ]
    return fits.TableHDU.from_columns(columns, name="ASCII")


def _variable_table(rng):
    arrays = np.empty(3, dtype=object)
    arrays[:] = [rng.normal(size=n) for n in (1, 4, 2)]
    return fits.BinTableHDU.from_columns([fits.Column("V", "PD()", array=arrays)], name="VAR")


def _extensions(rng):
    shape = _shape(rng)
    units = [fits.PrimaryHDU()]
    _cards(rng, units[0].header)
    units[0].header["NEXTEND"] = 3
    for version in (1, 2):
        units.append(fits.ImageHDU(_sky(rng, shape), name="SCI", ver=version))
        _cards(rng, units[-1].header)
    return [*units, _table(rng), _ascii_table(rng), _variable_table(rng)]


def _image_and_table(rng):
    unit = fits.PrimaryHDU(_sky(rng, _shape(rng), np.int16))
    _cards(rng, unit.header)
    return [unit, _table(rng), _ascii_table(rng)]


def _flags(rng):
    """An image with error, data quality and weight."""
    shape = _shape(rng)
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"], primary.header["INSTRUME"] = "HST", "ACS"
    flags = (rng.random(shape) < 0.01).astype(np.int16) * 16
    return [
        primary,
        fits.ImageHDU(_sky(rng, shape), name="SCI"),
        fits.ImageHDU(np.ones(shape, np.float32), name="ERR"),
        fits.ImageHDU(flags, name="DQ"),
        fits.ImageHDU(rng.uniform(0.5, 1, shape).astype(np.float32), name="WHT"),
    ]


def _lsst(rng):
    """Image, mask and variance of the pipeline of LSST."""
    shape = _shape(rng)
    mask = fits.ImageHDU((rng.random(shape) < 0.01).astype(np.int32), name="MASK")
    for bit, plane in enumerate(("BAD", "SAT", "CR", "NO_DATA")):
        mask.header[f"MP_{plane}"] = bit
    return [
        fits.PrimaryHDU(),
        fits.ImageHDU(_sky(rng, shape), name="IMAGE"),
        mask,
        fits.ImageHDU(np.full(shape, 25, np.float32), name="VARIANCE"),
    ]


def _groups(rng):
    values = np.ascontiguousarray(rng.normal(size=(3, 1, 4, 4)), dtype=np.float32)
    data = fits.GroupData(values, parnames=["U"], pardata=[np.arange(3.0)], bitpix=-32)
    return [fits.GroupsHDU(data), fits.ImageHDU(_sky(rng, _shape(rng)))]


def _tiles(codec, dtype, **options):
    def make(rng):
        shape = _shape(rng)
        data = _sky(rng, shape, dtype)
        settings = dict(options)
        if "tile" in settings:
            settings["tile_shape"] = tuple(min(n, settings["tile"]) for n in shape)
            del settings["tile"]
        unit = fits.CompImageHDU(data, compression_type=codec, **settings)
        _cards(rng, unit.header)
        return [fits.PrimaryHDU(), unit]

    return make


def _tiled_mosaic(rng):
    shape = _shape(rng)
    return [
        fits.PrimaryHDU(),
        *(
            fits.CompImageHDU(_sky(rng, shape, np.int16), compression_type="RICE_1", name=f"CCD{i}")
            for i in (1, 2)
        ),
        _table(rng),
    ]


_MAKERS = {
    "int16": _plain(np.int16),
    "int16 with BLANK": _plain(np.int16, scaled=True),
    "uint16": _plain(np.uint16),
    "int32": _plain(np.int32),
    "int64": _plain(np.int64),
    "uint8": _plain(np.uint8),
    "float32": _plain(np.float32),
    "float64": _plain(np.float64),
    "cube": _plain(np.float32, cube=True),
    "extensions": _extensions,
    "image and table": _image_and_table,
    "flags": _flags,
    "LSST": _lsst,
    "groups": _groups,
    "RICE_1 int16": _tiles("RICE_1", np.int16),
    "RICE_1 int32": _tiles("RICE_1", np.int32, tile=24),
    "RICE_1 quantised": _tiles("RICE_1", np.float32, quantize_method=1, dither_seed=7),
    "RICE_1 dither 2": _tiles("RICE_1", np.float64, quantize_method=2, dither_seed=9),
    "GZIP_1": _tiles("GZIP_1", np.int32),
    "GZIP_1 quantised": _tiles("GZIP_1", np.float32, quantize_method=-1),
    "GZIP_2": _tiles("GZIP_2", np.int16),
    "GZIP_2 lossless": _tiles("GZIP_2", np.float32, quantize_level=0),
    "PLIO_1": _tiles("PLIO_1", np.int16),
    "HCOMPRESS_1": _tiles("HCOMPRESS_1", np.int16),
    "HCOMPRESS_1 lossy": _tiles("HCOMPRESS_1", np.int32, hcomp_scale=2, hcomp_smooth=1),
    "HCOMPRESS_1 quantised": _tiles("HCOMPRESS_1", np.float32, quantize_level=8),
    "tiled mosaic": _tiled_mosaic,
}
KINDS = tuple(_MAKERS)


@cache
def base_file(kind, variant):
    """The bytes of a sound file.

    ``variant`` seeds its size, its pixels, and whether it has checksums; an image that a codec cannot
    hold (HCOMPRESS_1 with a short last tile) is drawn again.
    """
    for attempt in range(100):
        rng = np.random.default_rng([KINDS.index(kind), variant, attempt])
        try:
            with warnings.catch_warnings(), tempfile.NamedTemporaryFile() as file:
                warnings.simplefilter("ignore")
                units = fits.HDUList(_MAKERS[kind](rng))
                units.writeto(file.name, checksum=bool(variant % 2), overwrite=True)
                return Path(file.name).read_bytes()
        except ValueError:
            continue
    raise AssertionError(f"no file of kind {kind}")


def packed(contents, suffix):
    """The bytes of a file that is compressed as a whole."""
    if suffix == ".gz":
        return gzip.compress(contents, mtime=0)
    return bz2.compress(contents) if suffix == ".bz2" else contents
