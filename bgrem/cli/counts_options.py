"""Options of counts maps."""

import argparse

from bgrem.cli.arguments import file_name

__all__ = ["add_counts_options"]


def add_counts_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--exposure", metavar="MAP", type=file_name,
        help="exposure of a counts map, a file or HDU as for --mask, in any unit; on other pixels it is interpolated "
        "by its WCS",
    )  # fmt: skip
    group.add_argument(
        "--template", metavar="MAP", type=file_name,
        help="shape of the diffuse background per unit exposure, such as a Galactic diffuse model, as --exposure",
    )  # fmt: skip
    group.add_argument(
        "--psf", metavar="PSF", type=file_name,
        help="FWHM of the PSF in pixels, an image of it (one or one per energy band), or a table of gtpsf "
        "(default: a Gaussian of 3 pixels)",
    )  # fmt: skip
