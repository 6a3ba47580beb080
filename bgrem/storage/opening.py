"""Open a file: its bytes, uncompressed, or a sentence on why it cannot be used."""

import bz2
import gzip
import mmap
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astropy.io.fits import VerifyError
from astropy.utils.exceptions import AstropyWarning

from bgrem.arrays.rows import Memory

__all__ = ["FitsError", "advice", "header_faults", "read_contents", "sentence"]

PICTURE = "its values may have been stretched for display; if they were not, save it as FITS in {}"
PACKED = "a file packed by {0}; unpack it with {1}"
RAW_FILE = "a raw camera file; convert it to FITS with Siril, or in Python with rawpy and astropy"

# Where the first bytes of a format stand, these bytes, and the advice.
SIGNATURES = (
    (0, b"\x89PNG\r\n", "a PNG picture; " + PICTURE.format("Siril or GIMP")),
    (0, b"\xff\xd8\xff", "a JPEG picture, compressed with loss; convert the camera's raw file"),
    (8, b"CR\x02\x00", RAW_FILE),
    (0, b"XISF0100", "an XISF file; save it as FITS in PixInsight or Siril"),
    (0, b"LUCAM-RECORDER", "a SER video; export its frames as FITS in Siril or PIPP"),
    (
        0,
        b"#ASDF",
        "an ASDF file; in Python, astropy.io.fits.writeto('image.fits', asdf.open(FILE)[KEY])",
    ),
    (
        0,
        b"\x89HDF\r\n",
        "an HDF5 file; in Python, astropy.io.fits.writeto('image.fits', h5py.File(FILE)[KEY][:])",
    ),
    (0, b"FUJIFILMCCD-RAW_FILE", RAW_FILE),
    (4, b"ftypcrx", RAW_FILE),
    (0, b"\x1f\x9d", PACKED.format("compress (.Z)", "uncompress or gunzip")),
    (0, b"\x1f\xa0", PACKED.format("compress (.Z)", "gunzip")),
    (0, b"\x1f\x1e", PACKED.format("pack (.z)", "gunzip")),
    (0, b"\xfd7zXZ\x00", PACKED.format("xz", "unxz")),
    (0, b"\x5d\x00\x00", PACKED.format("lzma", "unlzma")),
    (0, b"LZIP", PACKED.format("lzip", "lzip -d")),
    (0, b"PK\x03\x04", PACKED.format("zip", "unzip")),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x28\xb5\x2f\xfd", PACKED.format("zstd", "unzstd")),
    (0, b"\x04\x22\x4d\x18", PACKED.format("lz4", "unlz4")),
    (0, b"7z\xbc\xaf\x27\x1c", PACKED.format("7-Zip", "7z x")),
    (0, b"Rar!\x1a\x07", PACKED.format("RAR", "unrar x")),
    (257, b"ustar", PACKED.format("tar", "tar -xf")),
)
# Those of TIFF. Raw files of cameras have them, too; only the name of the file distinguishes them.
TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
RAW_NAMES = (".nef", ".arw", ".dng", ".pef", ".cr2", ".cr3", ".raf", ".orf", ".rw2", ".nrw", ".srw")


class FitsError(ValueError):
    """A file cannot be used; the message is one sentence that names the file and the HDU."""


@contextmanager
def header_faults(label: str) -> Iterator[None]:
    """Report a card that cannot be read; odd but readable cards are common, and cause no warnings.

    ``label`` is the file and the HDU, for the beginning of the message.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            yield
        except VerifyError as error:
            reason = sentence(error).partition(", fix it first")[0]
            raise FitsError(f"{label} has a corrupt header ({reason})") from None


def read_contents(path: Path, store: Memory) -> bytes | mmap.mmap:
    """The uncompressed bytes of a file; memory-mapped if it is not compressed, else kept in the store.

    Raises FitsError if the file is missing, empty, truncated or corrupt, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(3)
            file.seek(0)
            if magic[:2] == b"\x1f\x8b":
                return _unpacked(gzip.GzipFile(fileobj=file), "gzip", path, store)
            if magic == b"BZh":
                return _unpacked(bz2.BZ2File(file), "bzip2", path, store)
            if not magic:
                raise FitsError(f"{path}: the file is empty")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise FitsError(f"{path}: no such file") from None
    except OSError as error:
        raise FitsError(f"{path}: cannot be read ({error.strerror or error})") from None


def _unpacked(stream, kind: str, path: Path, store: Memory) -> bytes | mmap.mmap:
    try:
        with stream:
            return store.contents(stream)
    except EOFError:
        raise FitsError(f"{path}: truncated, the {kind} stream ends too early") from None
    except (OSError, ValueError, zlib.error) as error:
        if getattr(error, "errno", None) is not None:
            raise  # of the disk, not of the stream
        raise FitsError(f"{path}: corrupt {kind} stream ({error})") from None


def advice(start: bytes, name: str) -> str:
    """The end of the message "not a FITS file": " but ..." with the format and how to convert it.

    ``start`` holds the first 512 bytes of the file, or fewer. The name is used where they do not identify
    the format. The text is empty for an unknown format.
    """
    for place, signature, known in SIGNATURES:
        if start[place:].startswith(signature):
            return f" but {known}"
    if name.lower().endswith(RAW_NAMES):
        return f" but {RAW_FILE}"
    if start.startswith(TIFF_STARTS):
        return " but a TIFF picture; " + PICTURE.format("Siril or ImageJ")
    return ""


def sentence(error: BaseException) -> str:
    """The message of an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
