"""Rows of results as aligned text and as JSON."""

import json

import numpy as np

from bgrem.storage.names import home_path

__all__ = ["plain", "text_table", "write_json"]


def text_table(rows, *, digits=4, no="no"):
    """Rows (dicts of the same keys) as text, columns aligned, the first one to the left.

    Parameters
    ----------
    rows : list of dict
        At least one.  Numbers that are not finite, and None, are shown as a dash.
    digits : int
        Significant digits of floating-point numbers.
    no : str
        How False is shown.

    Returns
    -------
    str
    """
    lines = [list(rows[0]), *([_cell(value, digits, no) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cell(value, digits, no):
    if isinstance(value, bool | np.bool_):
        return "yes" if value else no
    if value is None or isinstance(value, float | np.floating) and not np.isfinite(value):
        return "-"
    if isinstance(value, tuple):
        return " to ".join(_cell(item, digits, no) for item in value)
    if isinstance(value, float | np.floating):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return str(value)


def write_json(path, content):
    """Write a JSON file, with null for numbers that are not finite; makes its folder.

    Parameters
    ----------
    path : str or path
    content : dict
        NumPy's numbers are understood.

    Returns
    -------
    pathlib.Path
    """
    path = home_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(content), indent=1) + "\n")
    return path


def plain(value):
    """A value for JSON: NumPy's numbers and arrays as Python's, None for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
