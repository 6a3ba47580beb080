"""Cards as bytes: edited without a change to the others."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_files import ODD_CARDS, card, head, header_bytes, odd_files, plain

from bgrem.storage.cards import Cards, header_end, parsed_header

pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
ANY_CARD = st.binary(min_size=80, max_size=80).filter(lambda text: text[:3] != b"END")


def cards_of(texts):
    return Cards.read(header_bytes([card(text) for text in texts]))


def lines(cards):
    text = cards.tobytes()
    return [text[i : i + 80] for i in range(0, len(text), 80)]


@pytest.mark.parametrize("name", ODD_CARDS)
def test_unchanged_cards_are_the_same_bytes(name):
    header = header_bytes([*head(), *(card(text) for text in ODD_CARDS[name])])
    assert Cards.read(header).tobytes() == header


@settings(max_examples=200, deadline=None)
@given(st.lists(ANY_CARD, max_size=40))
def test_any_bytes_survive(texts):
    header = header_bytes([*head(), *texts])
    cards = Cards.read(header)
    assert cards.tobytes() == header
    cards.set("BITPIX", -32)
    changed = cards.tobytes()
    assert len(changed) == len(header)
    different = [i for i in range(0, len(header), 80) if header[i : i + 80] != changed[i : i + 80]]
    assert 80 in different
    assert all(b"BITPIX" in header[i : i + 80].upper() for i in different)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("BITPIX  =                   16", "BITPIX  =                  -32"),
        ("BITPIX  =                   16 / bits", "BITPIX  =                  -32 / bits"),
        ("BITPIX  = 16/ b\xeets", "BITPIX  =                  -32 / b\xeets"),
        ("BITPIX  = '16 / x' / text", "BITPIX  =                  -32 / text"),
        ("bitpix  = 16", "BITPIX  =                  -32"),
    ],
)
def test_a_value_is_changed_in_its_place(before, after):
    cards = cards_of(["A       = 1", before, "B       = 2"])
    cards.set("BITPIX", -32)
    assert lines(cards)[:3] == [card("A       = 1"), card(after), card("B       = 2")]


def test_every_duplicate_gets_the_value():
    cards = cards_of(["A       = 1", "BITPIX  = 16", "BITPIX  = 8 / again"])
    cards.set("BITPIX", -64)
    assert [parsed_header(line)["BITPIX"] for line in lines(cards)[1:3]] == [-64, -64]


def test_values_of_each_type_are_read_by_astropy():
    cards = cards_of([])
    for keyword, value in (("TEXT", "GZIP_2"), ("YES", True), ("NO", False), ("COUNT", -(2**63))):
        cards.set(keyword, value, "comment")
        assert cards.value(keyword) is value or cards.value(keyword) == value
    header = parsed_header(cards.tobytes())
    assert [(c.keyword, c.value, c.comment) for c in header.cards][:2] == [
        ("TEXT", "GZIP_2", "comment"), ("YES", True, "comment"),
    ]  # fmt: skip
    cards.insert_after("TEXT", ("NEXT", 3, "after it"))
    assert list(parsed_header(cards.tobytes())) == ["TEXT", "NEXT", "YES", "NO", "COUNT"]


def test_values_that_cannot_be_read_are_none():
    cards = cards_of(["NEXTEND = 1.2.3", "EXTEND  = (1,"])
    assert cards.value("NEXTEND") is None
    assert cards.value("EXTEND") is None
    assert cards.value("NAXIS") is None


@pytest.mark.parametrize("name", ["continued", "orphan continue"])
def test_a_card_is_dropped_with_its_continuations(name):
    cards = cards_of(["A       = 'one'", *ODD_CARDS[name], "B       = 1"])
    cards.drop(lambda keyword: keyword in ("LONGNAME", "EXPTIME"))
    assert lines(cards)[:2] == [card("A       = 'one'"), card("B       = 1")]


@pytest.mark.parametrize(
    "keyword", ["bzero   = 5", "BZERO= 5", " BZERO  = 5", "HIERARCH BZERO = 5"]
)
def test_keywords_are_those_that_astropy_applies(keyword):
    assert parsed_header(header_bytes([card(keyword)]))["BZERO"] == 5
    assert "BZERO" in cards_of([keyword])


@pytest.mark.parametrize("name", [name for name in odd_files() if name.startswith("END")])
def test_the_end_is_where_astropy_finds_it(name, tmp_path):
    contents = odd_files()[name]
    assert header_end(contents, 0) == 2880
    (tmp_path / "a.fits").write_bytes(contents)
    np.testing.assert_array_equal(fits.getdata(tmp_path / "a.fits").shape, (40, 50))
    assert list(parsed_header(contents[:2880])) == list(fits.getheader(tmp_path / "a.fits"))


def test_keywords_that_begin_with_end_do_not_end():
    contents = plain(["ENDTIME = 5", "END-OBS = 5", "ENDX"])
    assert len(list(parsed_header(contents[:2880]))) == len(head()) + 3
    assert header_end(b"".join(head()), 0) is None
