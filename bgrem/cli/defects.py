"""The command ``bgrem-defects``: find the defects of a camera in its frames and write them as a mask."""

import argparse
import sys
from collections.abc import Iterable, Sequence

from bgrem.cli.argument_types import memory_limit
from bgrem.cli.arguments import (
    Parser,
    add_common_options,
    complain,
    file_name,
    number_from,
    run_command,
)
from bgrem.storage.names import visible_text

EXAMPLES = """\
examples:
  bgrem-defects night/*.fits -o bad.fits
  bgrem-defects night/ -h all -o bad.fits           one map for each detector of a mosaic camera
  bgrem -f night/ --defects bad.fits                uses the map beside any other mask
  bgrem -f night/ --defects auto                    measures the map from the frames of the batch

Give five or more frames of one detector, of any fields, filters and exposure times, whose stars are in
different pixels. The map is 0 in good pixels, else the sum of 1 (pixel), 2 (column) and 4 (row). The
extension VALUE has what a pixel has above those around it in sky rms, CHANCE the chance that it is
defective. One line is printed. Exit code: 0 written, 1 failed, 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, see `~bgrem.cli.arguments.run_command`."""
    return run_command(make_parser(), _run, argv, help_for=[[], ["-h"]])


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        "bgrem-defects",
        "Find the pixels, columns and rows of a detector that stand out of the noise in all of its frames.",
        EXAMPLES,
        usage="bgrem-defects IMG [IMG ...] -o MAP [-h HDU] [options]",
        add_help=False,
    )
    parser.add_argument(
        "files", metavar="IMG", type=file_name, nargs="+",
        help="frames of one detector, folders or quoted globs; 'FILE[HDU]' names the HDU, too",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="MAP", type=file_name, required=True,
        help="FITS file of the map; its maps have the indices of the HDUs of the frames",
    )  # fmt: skip
    parser.add_argument(
        "-h", "--hdu", metavar="HDU",
        help="HDU of the image, by number or EXTNAME, or 'all' for every 2-D picture of the files (default: 0, "
        "or the first HDU that holds a picture)",
    )  # fmt: skip
    parser.add_argument(
        "--chance", metavar="CHANCE", type=_chance, default=0.5,
        help="chance of a defect from which a pixel is bad (default: 0.5)",
    )  # fmt: skip
    parser.add_argument(
        "--no-companions", dest="companions", action="store_false",
        help="ignore masks and weight maps beside the images; without this option, pixels that these call bad do "
        "not count in that frame",
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="MODEL", type=file_name, default="optical",
        help="model whose sky network measures the sky (default: optical)",
    )  # fmt: skip
    parser.add_argument(
        "--memory", metavar="LIMIT", type=memory_limit,
        help="memory for the frames, such as 8GB; larger ones are kept in temporary files in the output folder, "
        "2 bytes for each pixel of each frame (default: 2GB)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an existing map")
    add_common_options(parser, quiet="print errors only")
    parser.add_argument(
        "--help", action="help", help="print this help, as do -h alone and no arguments"
    )
    return parser


def _chance(text: str) -> float:
    value = number_from(0)(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _run(options: argparse.Namespace, parser: Parser) -> int:
    from bgrem.defects.camera import CameraOptions, find_defects
    from bgrem.processing.outcome import Failure
    from bgrem.processing.paths import expanded_paths

    paths = []
    for path in expanded_paths(options.files, prefix="BGRem_"):
        if isinstance(path, Failure):
            complain(parser.prog, path.message)
            return 1
        paths.append(path)
    asked = CameraOptions(
        hdu=options.hdu, least_chance=options.chance, companions=options.companions,
        memory=options.memory,
    )  # fmt: skip
    found = find_defects(
        paths, options.output, model=options.model, options=asked, overwrite=options.overwrite,
        progress=frames_bar(quiet=options.quiet),
    )  # fmt: skip
    if not options.quiet:
        for warning in found.warnings:
            complain(parser.prog, f"{found.output}: {warning}")
        print(visible_text(found))
    return 0


def frames_bar(*, quiet: bool):
    """Shows the frames that are read on a terminal, one by one."""

    def bar(paths: Sequence) -> Iterable:
        from tqdm import tqdm

        hidden = quiet or not sys.stderr.isatty()
        return tqdm(paths, desc="frames of the detector", leave=False, disable=hidden)

    return bar


if __name__ == "__main__":
    sys.exit(main())
