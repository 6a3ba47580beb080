"""Types of arguments of ``bgrem``: each turns the text of an option into its value."""

import argparse
import os
import re

from bgrem.cli.arguments import number_from

__all__ = [
    "catalogue_name", "lowest_value", "mask_bits", "memory_limit", "name_prefix", "plane_names", "saturation", "shard_of",
]  # fmt: skip


def shard_of(text: str) -> tuple[int, int]:
    """An argparse type: I/N as (I, N)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N")
    return number, count


def memory_limit(text: str) -> float:
    """An argparse type: an amount of memory such as 2GB, in bytes."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory such as 2GB")
    return float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " ")


def catalogue_name(text: str) -> str:
    """An argparse type: the name of a catalogue, whose suffix is that of its format."""
    suffixes = (".fits", ".fit", ".ecsv", ".vot", ".xml")
    if not text.lower().endswith(suffixes):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(suffixes)}")
    return os.path.expanduser(text)


def lowest_value(text: str) -> float | str | None:
    """An argparse type: a number, 'auto', or None for 'none'."""
    if text.lower() in ("auto", "none"):
        return "auto" if text.lower() == "auto" else None
    return number_from()(text)


def mask_bits(text: str) -> int:
    """An argparse type: bits of a mask as one number."""
    from bgrem.io.maps import parse_bits

    try:
        return parse_bits(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def saturation(text: str) -> float | str | None:
    """An argparse type: a number, 'header', or None for 'none'."""
    if text.lower() in ("header", "none"):
        return "header" if text.lower() == "header" else None
    return number_from()(text)


def name_prefix(text: str) -> str:
    """An argparse type: the beginning of a file name."""
    if "/" in text or "\\" in text or "\0" in text:
        raise argparse.ArgumentTypeError(
            "the prefix is a part of a file name (a folder goes to --output-dir)"
        )
    return text


def plane_names(text: str) -> tuple[str, ...]:
    """An argparse type: names of planes, separated by commas."""
    from bgrem.processing.products import SAVED_PLANES

    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in SAVED_PLANES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {', '.join(SAVED_PLANES)}")
    return names
