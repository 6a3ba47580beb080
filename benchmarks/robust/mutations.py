"""Changes that break FITS files: bits, cards, blocks, tiles and their descriptors."""

from itertools import pairwise

import numpy as np
from astropy.io import fits

from bgrem.storage.hdus import ones_complement_sum, words_of

__all__ = ["mutated"]

BLOCK, CARD = 2880, 80
STRUCTURE = [
    "SIMPLE",
    "BITPIX",
    "NAXIS",
    "NAXIS1",
    "NAXIS2",
    "NAXIS3",
    "NAXIS4",
    "EXTEND",
    "PCOUNT",
    "GCOUNT",
    "GROUPS",
    "XTENSION",
    "TFIELDS",
    "THEAP",
    "TFORM1",
    "TFORM2",
    "TFORM3",
    "TTYPE1",
    "TTYPE2",
    "TSCAL1",
    "TZERO1",
    "TNULL1",
    "TBCOL1",
    "TBCOL2",
    "TDIM1",
    "BSCALE",
    "BZERO",
    "BLANK",
    "EXTNAME",
    "EXTVER",
    "ZIMAGE",
    "ZBITPIX",
    "ZNAXIS",
    "ZNAXIS1",
    "ZNAXIS2",
    "ZTILE1",
    "ZTILE2",
    "ZCMPTYPE",
    "ZQUANTIZ",
    "ZDITHER0",
    "ZBLANK",
    "ZSCALE",
    "ZZERO",
    "ZNAME1",
    "ZNAME2",
    "ZVAL1",
    "ZVAL2",
    "ZSIMPLE",
    "ZTENSION",
    "ZPCOUNT",
    "ZGCOUNT",
    "DATASUM",
    "CHECKSUM",
    "ZDATASUM",
    "ZHECKSUM",
]
OTHERS = [
    "SATURATE",
    "GAIN",
    "EGAIN",
    "INSTRUME",
    "DETECTOR",
    "TELESCOP",
    "PLVER",
    "MP_BAD",
    "MP_SAT",
    "BAYERPAT",
    "CTYPE1",
    "CRVAL1",
    "CD1_1",
    "NEXTEND",
    "BUNIT",
    "INHERIT",
    "LONGSTRN",
    "BGR_NHDU",
    "BGR_VERS",
    "BGR_HDU",
    "BGR_HIST",
    "BGR_C1",
    "BGR_C2",
    "BGR_KEEP",
    "BGR_LEVL",
    "END",
    "CONTINUE",
    "COMMENT",
    "DATE-OBS",
    "EXPTIME",
    "RDNOISE",
    "CCDSUM",
    "WCSAXES",
    "HISTORY",
]
NUMBERS = [
    *[
        "0",
        "-1",
        "1",
        "2",
        "3",
        "4",
        "7",
        "8",
        "16",
        "32",
        "-32",
        "-64",
        "999",
        "1000",
        "32767",
        "65536",
        "99999999",
        "2147483647",
        "2147483648",
    ],
    *[
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "100000000000000000000",
        "-2147483648",
    ],
    *[
        "-9223372036854775809",
        "1.5",
        "-0.5",
        "1e300",
        "1e400",
        "-1e308",
        "1e-310",
        "1D5",
        "NaN",
        "nan",
        "INF",
    ],
]
WORDS = [
    *("'abc'", "''", "'", "'1'", "T", "F", "", "(1,2)", "'IMAGE'", "'BINTABLE'", "'TABLE'"),
    *(
        "'RICE_1'",
        "'GZIP_1'",
        "'GZIP_2'",
        "'PLIO_1'",
        "'HCOMPRESS_1'",
        "'NOCOMPRESS'",
        "'RICE_ONE'",
    ),
    *("'1PB(99999)'", "'1QB'", "'1PE'", "'9999999A'", "'1D'", "'PJ'", "'SUBTRACTIVE_DITHER_1'"),
    *(
        "'NO_DITHER'",
        "'BLOCKSIZE'",
        "'BYTEPIX'",
        "'SCALE'",
        "'SMOOTH'",
        "'\xe9'",
        "'x' / '",
        "'SCI'",
    ),
]


def mutated(rng, contents):
    """The bytes with one to three changes, and their names; one in ten has its checksums put right."""
    names = []
    for _ in range(int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))):
        layout = _layout(contents)
        if not layout:
            break
        change = CHANGES[int(rng.choice(len(CHANGES), p=SHARES))]
        contents = bytes(change(rng, bytearray(contents), layout))
        names.append(change.__name__.strip("_"))
    if rng.random() < 0.1:
        contents = _summed(contents)
        names.append("summed")
    return contents, names


def _layout(contents):
    """(start, data, stop) of each HDU, found by its first and its last card alone."""
    starts = [
        i for i in range(0, len(contents), BLOCK)
        if contents[i : i + 9] in (b"SIMPLE  =", b"XTENSION=")
    ]  # fmt: skip
    layout = []
    for start, stop in pairwise([*starts, len(contents)]):
        ends = (i for i in range(start, stop, CARD) if contents[i : i + 8] == b"END     ")
        end = next(ends, None)
        if end is not None:
            layout.append(
                (start, min(start + -(-(end + CARD - start) // BLOCK) * BLOCK, stop), stop)
            )
    return layout


def _pick(rng, layout):
    return layout[int(rng.integers(len(layout)))]


def _cards_of(contents, unit):
    return [contents[i : i + CARD] for i in range(unit[0], unit[1], CARD)]


def _with_cards(contents, unit, cards):
    """The header replaced, and padded to whole blocks."""
    header = b"".join(bytes(card) for card in cards).rstrip(b" ")
    header += b" " * (-len(header) % BLOCK)
    return contents[: unit[0]] + header + contents[unit[1] :]


def _flip_bits(rng, contents, start, stop, most):
    for _ in range(int(rng.integers(1, most + 1)) if stop > start else 0):
        contents[int(rng.integers(start, stop))] ^= 1 << int(rng.integers(8))
    return contents


def _header_bits(rng, contents, layout):
    start, data, _ = _pick(rng, layout)
    # Most of a header is padding.
    used = len(bytes(contents[start:data]).rstrip()) + start
    return _flip_bits(rng, contents, start, used, 8)


def _data_bits(rng, contents, layout):
    _, data, stop = _pick(rng, layout)
    return _flip_bits(rng, contents, data, stop, 40)


def _any_bytes(rng, contents, layout):
    place, length = int(rng.integers(len(contents))), int(rng.integers(1, 400))
    kind = rng.integers(4)
    new = b"\0\xff \x7f"[kind : kind + 1] * length
    if rng.random() < 0.5:
        new = rng.bytes(length)
    contents[place : place + length] = new[: len(contents) - place]
    return contents


def _value(rng):
    texts = NUMBERS if rng.random() < 0.7 else WORDS
    return str(rng.choice(texts))


def _card_text(keyword, value):
    return f"{keyword:8.8}= {value:>20}".encode("latin-1")[:CARD].ljust(CARD)


def _set_value(rng, contents, layout, keywords):
    unit = _pick(rng, layout)
    cards = _cards_of(contents, unit)
    keyword = str(rng.choice(keywords))
    own = [
        i for i, card in enumerate(cards) if bytes(card[:8]).decode("latin-1").strip() == keyword
    ]
    new = _card_text(keyword, _value(rng))
    if own:
        cards[own[0]] = new
    else:
        cards.insert(int(rng.integers(1, 12)), new)
    return _with_cards(contents, unit, cards)


def _structure_value(rng, contents, layout):
    present = {
        bytes(card[:8]).decode("latin-1").strip() for u in layout for card in _cards_of(contents, u)
    }
    known = [keyword for keyword in STRUCTURE if keyword in present]
    return _set_value(rng, contents, layout, known if rng.random() < 0.8 and known else STRUCTURE)


def _other_value(rng, contents, layout):
    return _set_value(rng, contents, layout, OTHERS)


def _used(cards):
    return max(1, len([card for card in cards if bytes(card).strip()]))


def _swap_cards(rng, contents, layout):
    unit = _pick(rng, layout)
    cards = _cards_of(contents, unit)
    i, j = rng.integers(0, _used(cards), 2)
    cards[i], cards[j] = cards[j], cards[i]
    return _with_cards(contents, unit, cards)


def _delete_card(rng, contents, layout):
    unit = _pick(rng, layout)
    cards = _cards_of(contents, unit)
    del cards[int(rng.integers(_used(cards)))]
    return _with_cards(contents, unit, cards)


def _double_card(rng, contents, layout):
    unit = _pick(rng, layout)
    cards = _cards_of(contents, unit)
    i, j = rng.integers(0, _used(cards), 2)
    cards.insert(int(j), cards[int(i)])
    return _with_cards(contents, unit, cards)


def _insert_card(rng, contents, layout):
    unit = _pick(rng, layout)
    cards = _cards_of(contents, unit)
    texts = [rng.bytes(CARD), b"=" * CARD, b"X       = 'no end", b"CONTINUE  'rest'", b"KEY =  1 / old",
             b"HIERARCH a = 1", b"END     x", b"\0" * CARD, b"NAXIS1  =  / none", b"A" * CARD]  # fmt: skip
    cards.insert(int(rng.integers(_used(cards))), texts[int(rng.integers(len(texts)))].ljust(CARD))
    return _with_cards(contents, unit, cards)


def _truncate(rng, contents, layout):
    return contents[: int(rng.integers(1, len(contents)))]


def _insert_bytes(rng, contents, layout):
    place = int(rng.integers(len(contents)))
    length = int(rng.choice([1, 3, 80, BLOCK, 2 * BLOCK]))
    if length % BLOCK == 0:
        place = place // BLOCK * BLOCK
    new = rng.bytes(length) if rng.random() < 0.5 else bytes(length)
    return contents[:place] + new + contents[place:]


def _remove_bytes(rng, contents, layout):
    place = int(rng.integers(len(contents)))
    length = int(rng.choice([1, 3, 80, BLOCK, 2 * BLOCK]))
    return contents[:place] + contents[place + length :]


def _double_hdu(rng, contents, layout):
    start, _, stop = _pick(rng, layout)
    place = _pick(rng, layout)[2]
    return contents[:place] + contents[start:stop] + contents[place:]


def _move_hdu(rng, contents, layout):
    start, _, stop = _pick(rng, layout)
    part = contents[start:stop]
    rest = contents[:start] + contents[stop:]
    place = int(rng.integers(0, len(rest) // BLOCK + 1)) * BLOCK
    return rest[:place] + part + rest[place:]


def _tables(contents, layout):
    """The table (start, stop of the rows, stop of the heap) of each tile-compressed image."""
    for start, data, stop in layout:
        try:
            header = fits.Header.fromstring(bytes(contents[start:data]).decode("latin-1"))
            rows = data + int(header["NAXIS1"]) * int(header["NAXIS2"])
            if header.get("ZIMAGE") is True and data < rows < stop:
                yield data, rows, min(stop, rows + int(header["PCOUNT"]))
        except Exception:  # noqa: BLE001, S112 - a header that is broken already
            continue


def _stream(rng, contents, layout):
    """Bits of the compressed tiles."""
    tables = list(_tables(contents, layout))
    if not tables:
        return _data_bits(rng, contents, layout)
    _, rows, stop = _pick(rng, tables)
    if rng.random() < 0.3 and stop > rows:
        place = int(rng.integers(rows, stop))
        length = int(rng.integers(1, 200))
        contents[place : place + length] = (
            rng.bytes(length) if rng.random() < 0.5 else bytes(length)
        )[: len(contents) - place]
        return contents
    return _flip_bits(rng, contents, rows, stop, 20)


def _descriptor(rng, contents, layout):
    """A length or a position of a tile."""
    tables = list(_tables(contents, layout))
    if not tables:
        return _structure_value(rng, contents, layout)
    start, rows, _ = _pick(rng, tables)
    for _ in range(int(rng.integers(1, 5))):
        place = start + 4 * int(rng.integers(max(1, (rows - start) // 4)))
        values = [0, 1, 2, 3, 2**31 - 1, 2**32 - 1, 2**31, 65535, int(rng.integers(5000))]
        contents[place : place + 4] = int(rng.choice(values)).to_bytes(4, "big")
    return contents


def _summed(contents):
    """The file with the DATASUM of each HDU put right, where there is one."""
    contents = bytearray(contents)
    for start, data, stop in _layout(contents):
        for place in range(start, data, CARD):
            if contents[place : place + 8] == b"DATASUM ":
                total = ones_complement_sum(words_of(bytes(contents[data:stop])))
                contents[place : place + CARD] = _card_text("DATASUM", f"'{total}'")
    return bytes(contents)


CHANGES = (
    _header_bits, _data_bits, _any_bytes, _structure_value, _other_value, _swap_cards, _delete_card,
    _double_card, _insert_card, _truncate, _insert_bytes, _remove_bytes, _double_hdu, _move_hdu,
    _stream, _descriptor,
)  # fmt: skip
_WEIGHTS = np.array([10, 6, 6, 22, 8, 4, 5, 4, 5, 4, 4, 3, 3, 2, 8, 6], float)
SHARES = _WEIGHTS / _WEIGHTS.sum()
