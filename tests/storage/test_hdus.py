"""Headers that are corrupt or ambiguous are refused in one sentence; odd ones are read."""

import io
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from bgrem.io.reading import FitsError, read_image

CARD = 80


def file_of(*units):
    file = io.BytesIO()
    fits.HDUList([*units]).writeto(file)
    return file.getvalue()


def an_image():
    values = np.random.default_rng(1).normal(100, 5, (24, 32)).astype(np.float32)
    return fits.PrimaryHDU(values)


def a_table():
    return fits.BinTableHDU(np.zeros(3, dtype=[("A", "i4"), ("B", "f8")]))


def with_card(contents, old, new):
    """The file with a card replaced; the first that begins with ``old``."""
    start = next(i for i in range(0, len(contents), CARD) if contents[i:].startswith(old))
    return contents[:start] + new.ljust(CARD) + contents[start + CARD :]


def message(path):
    with warnings.catch_warnings(), pytest.raises(FitsError) as error:
        warnings.simplefilter("error")
        read_image(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 300 + len(str(path))
    return text


@pytest.mark.parametrize(
    "old, new, reason",
    [
        (b"SIMPLE", b"SIMPLE  =                    F", "SIMPLE is not T"),
        (b"BITPIX", b"BITPIX  =                -32.0", "BITPIX is not a whole number"),
        (b"BITPIX", b"BITPIX  =                   24", "BITPIX is 24"),
        (b"NAXIS ", b"NAXIS   =                    T", "NAXIS is not a whole number"),
        (b"NAXIS ", b"NAXIS   =             99999999", "NAXIS is 99999999"),
        (b"NAXIS ", b"NAXIS   =                   -2", "NAXIS is -2"),
        (b"NAXIS1", b"NAXIS1  =                  NaN", "NAXIS1"),
        (b"NAXIS1", b"NAXIS1  = 'many'", "NAXIS1 is not a whole number"),
        (b"NAXIS1", b"NAXIS1  =                -5000", "not a length"),
        (b"NAXIS1", b"NAXIS1  = 99999999999999999999", "truncated"),
        (b"NAXIS2", b"PCOUNT  =                  1.5", "corrupt header"),
        (b"EXTEND", b"DATASUM = =", "astropy cannot read DATASUM"),
        (b"EXTEND", b"PCOUNT  =                    5", "parameters"),
        (b"EXTEND", b"GCOUNT  =                    0", "parameters"),
        (b"EXTEND", b"TFIELDS =             99999999", "TFIELDS is 99999999"),
    ],
)
def test_corrupt_structure_is_refused(tmp_path, old, new, reason):
    path = tmp_path / "a.fits"
    path.write_bytes(with_card(file_of(an_image()), old, new))
    assert reason in message(path)


@pytest.mark.parametrize("value", [b"99999999", b"-1", b"1.5", b"'x'", b"T"])
def test_a_table_of_too_many_columns_is_refused(tmp_path, value):
    path = tmp_path / "a.fits"
    contents = file_of(an_image(), a_table())
    path.write_bytes(with_card(contents, b"TFIELDS", b"TFIELDS = " + value.rjust(20)))
    assert "HDU 1 has a corrupt header (TFIELDS" in message(path)


def test_a_header_that_astropy_cannot_open_is_refused(tmp_path):
    path = tmp_path / "a.fits"
    contents = file_of(an_image())
    first, second = contents[:CARD], contents[CARD : 2 * CARD]
    other = contents[2 * CARD : 3 * CARD]
    path.write_bytes(first + other + second + contents[3 * CARD :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            with fits.open(path) as hdus:
                readable = hdus[0].data is not None
        except Exception:  # noqa: BLE001 - whatever it is, bgrem must refuse it
            readable = False
    if readable:
        assert read_image(path).data.shape == (24, 32)
    else:
        assert "corrupt header" in message(path)


def test_a_card_like_end_does_not_end_a_header(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(with_card(file_of(an_image()), b"EXTEND", b"END     of nothing"))
    assert read_image(path).data.shape == (24, 32)


@pytest.mark.parametrize("card", [b"SATURATE= 1,5", b"GAIN    = 2.0.1", b"BAYERPAT= 'RGGB"])
def test_cards_that_cannot_be_read_count_as_missing(tmp_path, card, toy_model):
    from bgrem.processing.files import process_file

    path = tmp_path / "a.fits"
    path.write_bytes(with_card(file_of(an_image()), b"EXTEND", card))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = process_file(path, model=toy_model, save=["background", "noise"])
    keyword = card[:8].decode().strip()
    unreadable = fits.Card.fromstring(card.ljust(CARD))
    try:
        _ = unreadable.value
    except fits.VerifyError:
        assert f"HDU 0 has cards that cannot be read: {keyword}" in result.warnings
    assert card in result.output.read_bytes()


def test_an_unclean_end_card_is_read_in_files_of_one_hdu(tmp_path):
    path = tmp_path / "a.fits"
    unclean = b"END     = 'GZIP_1'"
    path.write_bytes(with_card(file_of(an_image()), b"END", unclean))
    assert read_image(path).data.shape == (24, 32)
    path.write_bytes(with_card(file_of(an_image(), a_table()), b"END", unclean))
    assert "HDU 0 has a corrupt header (its END card is not blank" in message(path)
