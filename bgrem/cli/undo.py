"""The command ``bgrem-undo``: from the file that bgrem wrote back to the image that it read."""

import argparse
from pathlib import Path

from bgrem.cli.arguments import Parser, command, complain, sentence

EPILOG = """\
The file must hold the planes of `bgrem --save background,noise`. Integer images come back bit
for bit, with their headers; float images within one unit in the last place. Exit code: 0 all written, 1 some
failed (the others are done), 2 wrong usage.
"""


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        prog="bgrem-undo",
        description="Restore the images that bgrem was run on from the files that it wrote.",
        epilog=EPILOG,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="written by bgrem")
    parser.add_argument(
        "-o", "--output", metavar="OUT",
        help="the file that is written (default: restored_ + the name without BGRem_, beside it)",
    )  # fmt: skip
    parser.add_argument(
        "--output-dir", metavar="DIR", help="write there instead; made where missing"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_version()
    return parser


def _run(options: argparse.Namespace) -> int:
    from bgrem.io.restore import restored_path, undo

    failed = 0
    for name in options.files:
        output = Path(options.output or restored_path(Path(name)))
        if options.output_dir:
            output = Path(options.output_dir) / output.name
        try:
            print(undo(name, output, overwrite=options.overwrite), flush=True)
        except (ValueError, OSError) as error:
            failed += 1
            complain("bgrem-undo", sentence(error))
    return 1 if failed else 0


@command(make_parser, help_of=([],))
def main(options: argparse.Namespace, parser: Parser) -> int:
    """Run the command; the exit code."""
    if options.output and len(options.files) > 1:
        parser.error("--output names one file, give --output-dir for several")
    return _run(options)


if __name__ == "__main__":
    raise SystemExit(main())
