"""Files of other formats are refused with a sentence that says how to convert them."""

import pytest

from bgrem.io.reading import FitsError, read_image
from bgrem.storage.opening import advice

FILES = {
    "a.png": (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    "a.jpg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG picture"),
    "a.tif": (b"II*\0\x08\0\0\0", "a TIFF picture"),
    "b.tif": (b"MM\0*\0\0\0\x08", "a TIFF picture"),
    "a.cr2": (b"II*\0\x10\0\0\0CR\x02\0", "a raw camera file"),
    "a.NEF": (b"MM\0*\0\0\0\x08", "a raw camera file"),
    "a.xisf": (b"XISF0100\0\0", "an XISF file"),
    "a.ser": (b"LUCAM-RECORDER\0\0", "a SER video"),
    "a.asdf": (b"#ASDF 1.0.0\n", "an ASDF file"),
    "a.h5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "disguised.fits": (b"\xff\xd8\xff\xe0", "a JPEG picture"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_advice_names_format_and_conversion(tmp_path, name):
    start, kind = FILES[name]
    (tmp_path / name).write_bytes(start + bytes(100))
    with pytest.raises(FitsError) as error:
        read_image(tmp_path / name)
    told = str(error.value)
    assert told.startswith(f"{tmp_path / name}: not a FITS file but {kind}")
    assert any(word in told for word in ("save it as FITS", "convert", "export", "writeto"))
    assert "\n" not in told


def test_no_advice_for_unknown_formats():
    assert advice(b"<html>", "page.fits") == ""
    assert advice(b"", "a.png") == ""
