"""Small files whose headers and ends are odd, as real files are."""

from astropy.io import fits
from skies import flat_sky

SHAPE = (40, 50)


def card(text):
    """80 bytes; latin-1, so that any byte can be given."""
    return text.encode("latin-1").ljust(80)


def header_bytes(cards, *, end=b"END", fill=b" "):
    """Cards and END, in whole blocks."""
    text = b"".join(cards) + end
    return text.ljust(-(-len(text) // 2880) * 2880, fill)


def counts(dtype=">i2", seed=0):
    """A sky with a source, as stored pixels."""
    data = flat_sky(SHAPE, 100.0, 5.0, seed=seed, dtype=float)
    data[10:13, 20:23] += 400
    return data.astype(dtype)


def head(bitpix=16, axes=SHAPE):
    """The mandatory cards of a primary image."""
    values = {"BITPIX": bitpix, "NAXIS": len(axes)}
    values |= {f"NAXIS{n}": length for n, length in enumerate(axes[::-1], 1)}
    numbers = [card(f"{keyword:<8}= {value:20d}") for keyword, value in values.items()]
    return [card("SIMPLE  =                    T"), *numbers]


def plain(extra=(), *, pixels=None, first=None, end=b"END", fill=b" ", after=b"\0"):
    """A file of one image: its header with more cards, its pixels, and their padding."""
    pixels = counts() if pixels is None else pixels
    body = pixels.tobytes()
    cards = [*(head() if first is None else first), *(card(text) for text in extra)]
    return header_bytes(cards, end=end, fill=fill) + body + after * (-len(body) % 2880)


LONG = fits.Card("LONGNAME", "a long string " * 12, "comment")
ODD_CARDS = {
    "non-ASCII": ["TELESCOP= 'Takahashi \xb5250CRS'", "COMMENT 20 \xb0C"],
    "unterminated string": [r"ORGNAME = 'V:\astro\canon\Cygnus widefield\17082012\cleaned\pproc_A1_and_mor"],
    "lower case": ["object  = 'M 67'", "Filter  = 'r'"],
    "spacing": ["EXPTIME =30./seconds", "GAIN    =1.5", " AIRMASS = 1.2", "RA=10.5", "DEC     =     +1.E0"],
    "duplicates": ["FILTER  = 'r'", "FILTER  = 'g'", "FILTER  = 'r'"],
    "blank keyword": ["        a comment without a keyword", "", "ISPLIT  =                    1"],
    "continued": [str(LONG)[i : i + 80] for i in range(0, len(str(LONG)), 80)],
    "orphan continue": ["EXPTIME =                 30.0", "CONTINUE  'of nothing'"],
    "hierarch": ["HIERARCH ESO DET OUT1 GAIN = 0.5 / e-/ADU", "HIERARCH LongLowerCase='x'"],
    "commentary": ["HISTORY  flat", "COMMENT a 'quote", "HISTORY  bias", "HISTORY"],
    "NUL and tabs": ["OBSERVER= 'A.\tB.'\0\0\0", "\0" * 80, "SITE    = 'X'\t/ tab", "NOTE    = 'a\0b'"],
    "no value": ["JUNK", "NOVALUE =", "SLASH   = / undefined", "A statement without an equals sign"],
    "bad values": ["NUMBER  = 1.2.3", "COMPLEX = (1,", "HEXA    = 0x1F", "QUOTE   = 'it's'"],
    "free BITPIX": ["NEXTEND = 0 / none", "EXTEND  = F/ no extensions"],
    "EXTEND": ["EXTEND  =                    F / no extensions", "NEXTEND =                    0"],
    "EXTEND in vain": ["EXTEND  =                    T", "NEXTEND = 'two'"],
    "scaled": ["BZERO   =                32768", "BSCALE  =                    1", "BLANK   =                  101"],
    "lower scaled": ["bzero   =                10", "BSCALE  =                  0.5", "DATAMAX = 9"],
    "sums": ["CHECKSUM= 'wrong'", "DATASUM = 'wrong'", "CHECKSUM= 'wrong again'"],
    "own cards": ["BGR_NOTE= 'of a user'", "HIERARCH BGR_LONGER = 1"],
    "reserved": [""] * 40,
    "one block": [f"KEY{n:<5}= {n:20d}" for n in range(30)],
    "a full block": [f"KEY{n:<5}= {n:20d}" for n in range(31)],
    "record values": ["DP1     = 'EXTVER: 1.0'", "DP1     = 'NAXES: 2'", "CPDIS1  = 'LOOKUP'"],
}  # fmt: skip


def odd_files():
    """Names and bytes of files of integer pixels."""
    files = {name: plain(cards) for name, cards in ODD_CARDS.items()}
    whole = plain()
    table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2])])
    other = table.header.tostring().encode() + table.data.tobytes().ljust(2880, b"\0")
    empty = [card("XTENSION= 'IMAGE'"), *head(8, ())[1:], card("PCOUNT  = 0"), card("GCOUNT  = 1")]
    free = [card("BITPIX  = 16/ bits") if c.startswith(b"BITPIX") else c for c in head()]
    return files | {
        "END with NUL": plain(fill=b"\0"),
        "END with text": plain(end=b"END / of the header"),
        "all after END": plain(fill=b"x", end=b"END" + b" " * 77),
        "cards with NUL": plain(first=[c.rstrip().ljust(80, b"\0") for c in head()], fill=b"\0"),
        "free format": plain(first=free),
        "two BITPIX": plain(["BITPIX  = 8"]),
        "unpadded": whole[: 2880 + counts().nbytes],
        "partly padded": whole[: 2880 + counts().nbytes + 7],
        "blanks after pixels": plain(after=b" "),
        "garbage after pixels": plain(after=b"\xfe"),
        "trailing bytes": whole + b"trailing" * 500,
        "trailing zeros": whole + b"\0" * 2880,
        "trailing record": whole + b"SPECIAL RECORD".ljust(2880),
        "other HDU": whole + other,
        "other HDU, unpadded": whole + other[: -2880 + table.data.nbytes],
        "unpadded header": whole + b"".join([*empty, b"END".ljust(80)]),
        "other HDU, trailing bytes": whole + other[:-1] + b"\1" + b"x" * 100,
    }
