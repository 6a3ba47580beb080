"""The command ``bgrem``: separate FITS images into sources, background and noise."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bgrem import __version__
from bgrem.cli import Parser, command, complain, integer_from, number_from, positive_number

EXAMPLES = """\
examples:
  bgrem -f image.fits                          writes BGRem_image.fits beside it
  bgrem -f night1/ 'night2/*.fits.fz' --output-dir clean
  bgrem -f mosaic.fits -h SCI -s 4 --save background,noise,rms,mask
  bgrem -f stack.fits --mask stack.weight.fits[1] --overwrite

Sources + background + noise equal the image, pixel by pixel. One line is printed per
image. Exit code: 0 all written, 1 some failed (the others are done), 2 wrong usage.
"""


@command("bgrem")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process where None.

    Returns
    -------
    int
        Exit code: 0 all written, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    if argv in ([], ["-h"]):
        parser.print_help()
        return 0
    options = parser.parse_args(_attach_values(argv, parser))
    return _run(options, parser)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = Parser(
        prog="bgrem",
        usage="bgrem -f IMG [IMG ...] [-h HDU] [-s STEPS] [-n NORM] [-m MINPIX] [-p PREFIX] [options]",
        description="Separate FITS images into sources, background and noise, "
        "and write each again with only its sources.",
        epilog=EXAMPLES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=28, width=96
        ),
        add_help=False,
        allow_abbrev=False,
    )
    _add_image_options(parser.add_argument_group("image"))
    _add_output_options(parser.add_argument_group("output"))
    _add_path_options(parser.add_argument_group("model and sky"))
    other = parser.add_argument_group("other")
    other.add_argument("--quiet", action="store_true", help="print errors only")
    other.add_argument(
        "--version", action="version", version=f"bgrem {__version__}", help="print the version"
    )
    other.add_argument(
        "--help", action="help", help="print this help (so do -h alone, and no arguments)"
    )
    return parser


def _add_image_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-f", "--file", metavar="IMG", nargs="+", action="extend", required=True, dest="files",
        help="one or more images, folders or quoted globs; may be repeated "
        "(.fits .fit .fts .fz, also .gz and .bz2)",
    )  # fmt: skip
    group.add_argument(
        "-h", "--hdu", metavar="HDU",
        help="HDU of the image, number or EXTNAME, or 'all' for every 2-D image of the file (default: 0, "
        "or the first that holds an image)",
    )  # fmt: skip
    group.add_argument("-i", dest="hdu", help=argparse.SUPPRESS)
    group.add_argument(
        "--mask", metavar="MASK",
        help="bad pixels, where it is not 0: a FITS file, FILE[HDU], or an HDU of the image's own file",
    )  # fmt: skip
    group.add_argument(
        "--mask-bits", metavar="BITS", type=_bits,
        help="only these bits of the mask are bad: values with commas, decimal or hexadecimal "
        "(4096,16 is 0x1010; default: any value but 0)",
    )  # fmt: skip
    group.add_argument(
        "--weight", metavar="MAP",
        help="weight map, given as a mask is: the noise map takes its shape, the image tells the "
        "scale; no data where it has none (weight 0, infinite variance)",
    )  # fmt: skip
    group.add_argument(
        "--weight-type", choices=("inverse", "variance", "rms"), default="inverse",
        help="what the weight map holds: inverse variance (default), variance or rms",
    )  # fmt: skip
    group.add_argument(
        "--saturate", metavar="LEVEL", type=_saturate, default="header",
        help="pixels from LEVEL on are saturated: flagged, and their light stays in the sources; "
        "'none' for none (default: the header's SATURATE)",
    )  # fmt: skip
    group.add_argument(
        "--no-companions", dest="companions", action="store_false",
        help="take no mask or weight that is not given: ERR and DQ of HST and JWST, mask and "
        "variance of HSC and LSST, the ood and oow files of DECam are taken otherwise",
    )  # fmt: skip
    group.add_argument(
        "--bayer", choices=("auto", "yes", "no"), default="auto",
        help="whether the image is a Bayer mosaic, done as four planes (default: what BAYERPAT or "
        "the pixels say)",
    )  # fmt: skip
    group.add_argument(
        "-m", "--minpix", metavar="MINPIX", type=_minpix, default="auto",
        help="raise pixels below MINPIX to it before anything else (detector failures); 'none' for none "
        "(default: 0 for raw frames, whose sky level is above 5 rms, and none for sky-subtracted ones)",
    )  # fmt: skip


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-p", "--prefix", metavar="PREFIX", type=_prefix, default="BGRem_",
        help="the output is PREFIX + input name, beside the input (default: BGRem_)",
    )  # fmt: skip
    group.add_argument(
        "--output-dir", metavar="DIR", help="write there instead; made where missing"
    )
    group.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    group.add_argument(
        "--save", metavar="PLANES", type=_planes, default=(),
        help="append planes as extensions, a list with commas of: background, noise, rms, mask, "
        "uncertainty, significance (the last two where the model gives them)",
    )  # fmt: skip
    group.add_argument(
        "--nonnegative", action="store_true",
        help="clip negative sources to 0 (the clipped part goes to the noise)",
    )  # fmt: skip
    group.add_argument("--keep-level", action="store_true", help="add the median sky level back")


def _add_path_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-s", "--steps", metavar="STEPS", type=integer_from(1), default=1,
        help="diffusion steps: more give a sharper image, at a cost linear in them (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "-n", "--norm", metavar="NORM", type=number_from(0), default=0.0,
        help="factor that brings the noise's standard deviation to 1; 1/NORM replaces the rms map, "
        "0 estimates the map (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--model", metavar="MODEL", default="optical",
        help="name of a model in the package, or a path to an .onnx file (default: optical)",
    )  # fmt: skip
    group.add_argument(
        "--fwhm", metavar="PIXELS", type=positive_number,
        help="FWHM of the point-spread function in pixels (default: measured)",
    )  # fmt: skip
    group.add_argument(
        "--box", metavar="PIXELS", type=integer_from(16),
        help="box of the sky mesh in pixels; wider structure is background (default: the model's)",
    )  # fmt: skip


def _minpix(text: str) -> float | str | None:
    if text.lower() in ("auto", "none"):
        return "auto" if text.lower() == "auto" else None
    return number_from()(text)


def _bits(text: str) -> int:
    from bgrem.maps import parse_bits

    try:
        return parse_bits(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _saturate(text: str) -> float | str | None:
    if text.lower() in ("header", "none"):
        return "header" if text.lower() == "header" else None
    return number_from()(text)


def _prefix(text: str) -> str:
    if "/" in text or "\\" in text or "\0" in text:
        raise argparse.ArgumentTypeError(
            "the prefix is a part of a file name (a folder goes to --output-dir)"
        )
    return text


def _planes(text: str) -> tuple[str, ...]:
    from bgrem.files import PLANES

    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in PLANES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {', '.join(PLANES)}")
    return names


def _attach_values(argv: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """Write ``-m VALUE`` as ``-m=VALUE``: argparse takes a VALUE that begins with - for a flag."""
    single = {
        name for action in parser._actions if action.nargs is None for name in action.option_strings
    }
    attached, words = [], iter(argv)
    for word in words:
        value = next(words, None) if word in single else None
        attached.append(word if value is None else f"{word}={value}")
    return attached


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    # numpy, astropy and the model runtime take a second to import: a usage error need not wait for it.
    from bgrem.files import Failure, process_files
    from bgrem.model import load_model

    try:
        model = load_model(options.model)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    arguments = {k: v for k, v in vars(options).items() if k not in ("files", "model", "quiet")}
    failed = 0
    progress = _progress_bar if sys.stderr.isatty() and not options.quiet else None
    for outcome in process_files(options.files, model=model, progress=progress, **arguments):
        if isinstance(outcome, Failure):
            failed += 1
            complain("bgrem", outcome.message)
        elif not options.quiet:
            for warning in outcome.warnings:
                complain("bgrem", f"{outcome.input}: {warning}")
            print(outcome, flush=True)
    return 1 if failed else 0


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[float], None]]:
    """A bar on the terminal that is gone when the image is done."""
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}% {bar} {elapsed} < {remaining}"
    with tqdm(desc=name, total=1.0, bar_format=layout, leave=False) as bar:

        def report(fraction: float) -> None:
            bar.update(fraction - bar.n)

        yield report
