"""Names and texts of users: paths as they are given, and texts as they are shown."""

import os
import re
import unicodedata
from pathlib import Path

__all__ = ["home_path", "named_hdu", "visible_text"]

# Categories of characters that move the cursor, hide text or change its direction.
INVISIBLE = ("Cc", "Cf", "Zl", "Zp")


def home_path(path: str | os.PathLike) -> Path:
    """A path in which ``~`` at the beginning is the home folder, as in a shell."""
    return Path(os.path.expanduser(path))


def named_hdu(path: str | os.PathLike) -> tuple[Path, str | None]:
    """The file and the HDU that FILE[HDU] names; a file whose own name ends so has no HDU named.

    ``~`` is expanded as by `home_path`.
    """
    whole = home_path(path)
    bracket = re.fullmatch(r"(.+)\[([^\[\]]+)\]", str(whole), re.DOTALL)
    if bracket and not os.path.lexists(whole) and os.path.isfile(bracket[1]):
        return Path(bracket[1]), bracket[2]
    return whole, None


def visible_text(text: object) -> str:
    r"""A text for one line of a terminal or a page: control characters and marks of direction as \x1b.

    Bytes of file names that are not valid text (surrogates) stay.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in INVISIBLE else c
        for c in text
    )
