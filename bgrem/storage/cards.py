"""The cards of a header as bytes, so that a header is edited without a change to its other cards.

astropy writes a card as it understands it: bytes outside ASCII, strings without a closing quote, lower case,
tabs and unusual spacing change. Here a card is 80 bytes, and astropy only reads its keyword and value.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from astropy.io import fits

__all__ = [
    "FITS_BLOCK",
    "FITS_CARD",
    "PRINTABLE",
    "Cards",
    "LenientHeader",
    "header_end",
    "parsed_header",
    "unreadable",
]

FITS_BLOCK = 2880  # bytes
FITS_CARD = 80  # bytes

# Headers are printable ASCII (Standard, section 3.2). Other bytes, such as tabs or degree signs, are
# replaced, so that the file can still be read.
PRINTABLE = bytes(i if 32 <= i < 127 else ord(" " if i < 32 else "?") for i in range(256))

# As astropy: END is the end also where NUL bytes or a comment follow and no further card, but ENDTIME is not.
END_CARD = b"END".ljust(FITS_CARD)
UNCLEAN_END = re.compile(rb"END(?![A-Z0-9_-])")
# The value of a card, after the value indicator; the comment follows.
VALUE = re.compile(rb" *(?:'(?:[^']|'')*'|[^/']*) *")


class Cards:
    """The cards of a header in order, each as bytes, with the cards that continue it.

    Parameters
    ----------
    cards : iterable of bytes
        Whole cards; a card and its continuations may be one.
    """

    def __init__(self, cards: Iterable[bytes] = ()) -> None:
        self._cards = [(_keyword(card), card) for card in cards]

    @classmethod
    def read(cls, header: bytes) -> "Cards":
        """The cards of a header up to END."""
        return cls(_joined(_raw_cards(header)))

    @classmethod
    def of(cls, header: fits.Header) -> "Cards":
        """The cards that astropy writes of a header."""
        return cls(str(card).encode("ascii") for card in header.cards)

    def __contains__(self, keyword: str) -> bool:
        return any(keyword == own for own, _ in self._cards)

    def value(self, keyword: str) -> object:
        """The value of the first card of a keyword; None if there is none, or it cannot be read."""
        for own, card in self._cards:
            if own == keyword:
                try:
                    return _parsed(card).value
                except fits.VerifyError:
                    return None
        return None

    def set(self, keyword: str, value: bool | int | str, comment: str = "") -> None:
        """Change the value in all cards of a keyword, or append a card with a comment if there are none."""
        if keyword not in self:
            self._cards.append((keyword, _card(keyword, value, f"/ {comment}".encode())))
        if self.value(keyword) == value:
            return
        for place, (own, card) in enumerate(self._cards):
            if own == keyword:
                changed = _card(keyword, value, _comment(card)) + card[FITS_CARD:]
                self._cards[place] = own, changed

    def insert_after(self, keyword: str, card: tuple[str, bool | int | str, str]) -> None:
        """Insert a new card after the first of a keyword, which must be there."""
        place = [own for own, _ in self._cards].index(keyword) + 1
        self._cards.insert(place, (card[0], _card(card[0], card[1], f"/ {card[2]}".encode())))

    def drop(self, condition: Callable[[str], object]) -> None:
        """Remove the cards whose keyword fulfils a condition."""
        self._cards = [(own, card) for own, card in self._cards if not condition(own)]

    def without_nul(self) -> None:
        """Replace NUL bytes by blanks: astropy takes a header with them for the end of the file."""
        self._cards = [(own, card.replace(b"\0", b" ")) for own, card in self._cards]

    def extend(self, other: "Cards") -> None:
        """Append the cards of another header."""
        self._cards.extend(other._cards)

    def tobytes(self) -> bytes:
        """The header with END, in whole blocks."""
        text = b"".join([*(card for _, card in self._cards), b"END"])
        return text.ljust(-(-len(text) // FITS_BLOCK) * FITS_BLOCK)


class LenientHeader(fits.Header):
    """A header in which a card that cannot be read counts as missing, where there is a default for it."""

    def get(self, key, default=None):
        """The value of a card, or the default."""
        try:
            return super().get(key, default)
        except fits.VerifyError:
            return default


def unreadable(header: fits.Header) -> list[str]:
    """The keywords of the cards that cannot be read."""
    found = []
    for card in header.cards:
        try:
            _ = card.value
        except fits.VerifyError:
            found.append(card.keyword)
    return found


def parsed_header(header: bytes) -> LenientHeader:
    """The bytes of a header as astropy reads them; its cards are parsed when they are used."""
    return LenientHeader.fromstring(b"".join(_raw_cards(header)).translate(PRINTABLE))


def header_end(contents, start: int) -> int | None:
    """Offset of the block after the one that holds the END card; None without such a card."""
    for block in range(start, len(contents), FITS_BLOCK):
        if _end_card(contents[block : block + FITS_BLOCK]) is not None:
            return min(block + FITS_BLOCK, len(contents))
    return None


def ends_cleanly(header: bytes) -> bool:
    """Whether the END card of a header is blank after END, as the Standard demands."""
    last = header[-FITS_BLOCK:]
    end = _end_card(last)
    return end is not None and last[end : end + FITS_CARD] == END_CARD


def _end_card(block: bytes) -> int | None:
    """Offset of the END card in a block of a header."""
    for i in range(0, len(block), FITS_CARD):
        if UNCLEAN_END.match(block, i):
            after = block[i + FITS_CARD :].strip(b"\0 ")
            if block[i : i + FITS_CARD] == END_CARD or not after:
                return i
    return None


def _raw_cards(header: bytes) -> Iterator[bytes]:
    """The cards up to END, which is in the last block."""
    last = max(0, len(header) - 1) // FITS_BLOCK * FITS_BLOCK
    end = _end_card(header[last:])
    stop = len(header) if end is None else last + end
    return (header[i : i + FITS_CARD] for i in range(0, stop, FITS_CARD))


def _joined(cards: Iterable[bytes]) -> Iterator[bytes]:
    """Cards with the CONTINUE cards after them, which readers join to any card."""
    whole = b""
    for card in cards:
        if card[:8] == b"CONTINUE":
            whole += card
            continue
        if whole:
            yield whole
        whole = card
    if whole:
        yield whole


def _parsed(card: bytes) -> fits.Card:
    return fits.Card.fromstring(card.translate(PRINTABLE))


def _keyword(card: bytes) -> str:
    """The keyword as astropy reads it, in upper case: its readers apply a card such as ``bzero``, too."""
    return _parsed(card).keyword.upper()


def _card(keyword: str, value: bool | int | str, comment: bytes) -> bytes:
    if isinstance(value, str):
        text = f"'{value:<8}'".ljust(20)
    else:
        text = ("FT"[value] if isinstance(value, bool) else str(value)).rjust(20)
    card = f"{keyword:<8}= {text} ".encode("ascii") + comment
    return card.rstrip(b"/ ")[:FITS_CARD].ljust(FITS_CARD)


def _comment(card: bytes) -> bytes:
    """The comment of a card, with its slash; empty without one."""
    rest = card[VALUE.match(card, 10).end() : FITS_CARD].rstrip(b" \0")
    return rest if rest.startswith(b"/") else b""
