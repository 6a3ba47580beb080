"""What a file is that is no FITS file, and how it becomes one."""

__all__ = ["advice"]

PICTURE = "its values may have been stretched for display; if they were not, save it as FITS in {}"
RAW = "a raw camera file; convert it to FITS with Siril, or in Python with rawpy and astropy"

# The first bytes of a file, where they stand, and what to tell of it.
SIGNATURES = (
    (0, b"\x89PNG\r\n", "a PNG picture; " + PICTURE.format("Siril or GIMP")),
    (0, b"\xff\xd8\xff", "a JPEG picture, compressed with loss; convert the camera's raw file"),
    (8, b"CR\x02\x00", RAW),
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
    (0, b"FUJIFILMCCD-RAW", RAW),
    (4, b"ftypcrx", RAW),
)
# Those of TIFF, which cameras use for their raw files, too: then the name tells.
TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
RAW_NAMES = (".nef", ".arw", ".dng", ".pef", ".cr2", ".cr3", ".raf", ".orf", ".rw2", ".nrw", ".srw")


def advice(start: bytes, name: str) -> str:
    """What to add to "not a FITS file".

    Parameters
    ----------
    start : bytes
        The first 64 bytes of the file, or fewer.
    name : str
        Its name, which tells where its bytes do not.

    Returns
    -------
    str
        " but ..." with what it is and how to convert it; empty where that is not known.
    """
    for place, signature, told in SIGNATURES:
        if start[place:].startswith(signature):
            return f" but {told}"
    if name.lower().endswith(RAW_NAMES):
        return f" but {RAW}"
    if start.startswith(TIFF):
        return " but a TIFF picture; " + PICTURE.format("Siril or ImageJ")
    return ""
