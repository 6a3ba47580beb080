"""The options of ``bgrem`` for the catalogue, and the one catalogue of several images."""

import argparse
from pathlib import Path

from bgrem.cli.argument_types import catalogue_name
from bgrem.cli.arguments import Parser, file_name, number_from, positive_number

__all__ = ["add_catalogue_options", "gathered_catalogue"]


def add_catalogue_options(group: argparse._ArgumentGroup) -> None:
    """Add the options to a group of the parser."""
    group.add_argument(
        "--catalog", metavar="FILE", type=catalogue_name, nargs="?", const=True, default=False,
        help="also write a catalogue of the sources, OUTPUT with .cat.fits, or FILE, which ends in .fits, .ecsv or "
        ".vot; of several images FILE holds all sources, with a column for the image (needs SciPy)",
    )  # fmt: skip
    group.add_argument(
        "--false-rate", metavar="R", type=positive_number, default=10.0,
        help="false detections per Mpix that the catalogue may have (default: 10)",
    )  # fmt: skip
    group.add_argument(
        "--purity", metavar="P", type=number_from(0),
        help="instead of --false-rate: list the sources that are real with a probability of at least P",
    )  # fmt: skip
    group.add_argument(
        "--calibrate", action=argparse.BooleanOptionalAction, default=True,
        help="measure false detections, completeness and the scale of the uncertainty on each image, by its noise "
        "with the sign changed and by planted sources; it takes about as long as the run, on large images less (default: yes)",
    )  # fmt: skip
    group.add_argument(
        "--detect", metavar="IMG", type=file_name,
        help="detect the sources of the catalogue on this image of the same pixels, such as another band; they are "
        "measured on the images of -f",
    )  # fmt: skip
    group.add_argument(
        "--gain", metavar="GAIN", type=positive_number,
        help="electrons per data unit, for the photon noise of sources (default: EGAIN or GAIN in the header)",
    )  # fmt: skip
    group.add_argument(
        "--zeropoint", metavar="MAG", type=number_from(),
        help="magnitude of one data unit (default: that of the header, such as MAGZERO, PHOTFLAM or BUNIT)",
    )  # fmt: skip


def gathered_catalogue(options: argparse.Namespace, parser: Parser):
    """The path of the catalogue of several images, None where there is none; checked before the work."""
    if not options.catalog:
        if options.detect:
            parser.error("--detect is for a catalogue: give --catalog, too")
        return None
    try:
        from bgrem.catalogue.catalogue_files import check_path
    except ImportError as error:
        parser.error(str(error))
    from bgrem.processing.paths import expanded_paths, output_path

    if options.purity is not None and not (0 < options.purity < 1 and options.calibrate):
        parser.error("--purity is between 0 and 1, and needs the calibration on the image")
    if options.catalog is True:
        return None
    images = list(expanded_paths(options.files, options.prefix))
    if len(images) < 2:
        return None
    if options.shard:
        parser.error(
            "--catalog FILE holds the images of one run: give --catalog alone with --shard"
        )
    path, options.catalog = Path(options.catalog), True
    inputs = [image for image in images if isinstance(image, Path)]
    outputs = [output_path(i, prefix=options.prefix, output_dir=options.output_dir) for i in inputs]
    try:
        check_path(path, options.overwrite, [*inputs, *outputs])
    except ValueError as error:
        parser.error(str(error))
    return path
