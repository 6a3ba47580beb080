"""The command ``bgrem-undo``: restore the images that bgrem read from the files that it wrote."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bgrem.cli.arguments import (
    Parser,
    add_common_options,
    complain,
    file_name,
    run_command,
    sentence,
)
from bgrem.storage.names import visible_text

EPILOG = """\
FILE must contain the planes of `bgrem --save background,noise`. Integer images are restored bit for
bit, with their headers; float images to the rounding of their largest part. Exit code: 0 all files
written, 1 some failed (the others are written), 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, see `~bgrem.cli.arguments.run_command`."""
    return run_command(make_parser(), _run, argv, help_for=[[]])


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser("bgrem-undo", "Restore images from the files that bgrem wrote.", EPILOG)
    parser.add_argument(
        "files", metavar="FILE", type=file_name, nargs="+", help="file that bgrem wrote"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=file_name,
        help="name of the restored file (default: restored_ + the name without BGRem_, in the folder "
        "of FILE)",
    )  # fmt: skip
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        type=file_name,
        help="folder of the restored files; created if missing",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    add_common_options(parser, quiet=None)
    return parser


def _run(options: argparse.Namespace, parser: Parser) -> int:
    from bgrem.io.restore import restored_path, undo

    if options.output and len(options.files) > 1:
        parser.error("--output names one file, give --output-dir for several")
    failed = 0
    for name in options.files:
        output = Path(options.output or restored_path(Path(name)))
        if options.output_dir:
            output = Path(options.output_dir) / output.name
        try:
            print(visible_text(undo(name, output, overwrite=options.overwrite)), flush=True)
        except (ValueError, OSError) as error:
            failed += 1
            complain(parser.prog, sentence(error))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
