"""The command ``bgrem``: separate FITS images into sources, background and noise."""

import argparse
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext

from bgrem.cli.arguments import (
    Parser,
    command,
    complain,
    integer_from,
    number_from,
    positive_number,
)

EXAMPLES = """\
examples:
  bgrem -f image.fits                          writes BGRem_image.fits beside it
  bgrem -f night1/ 'night2/*.fits.fz' --output-dir clean
  bgrem -f mosaic.fits -h SCI -s 4 --save background,noise,rms,mask
  bgrem -f night1/ --workers 4 --log night1.jsonl
  bgrem -f stack.fits --mask stack.weight.fits[1] --overwrite

Sources + background + noise equal the image, pixel by pixel. One line is printed per
image. Exit code: 0 all written, 1 some failed (the others are done), 2 wrong usage.
"""


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        prog="bgrem",
        usage="bgrem -f IMG [IMG ...] [-h HDU] [-s STEPS] [-n NORM] [-m MINPIX] [-p PREFIX] [options]",
        description="Separate FITS images into sources, background and noise, "
        "and write each again with only its sources.",
        epilog=EXAMPLES,
        add_help=False,
    )
    _add_image_options(parser.add_argument_group("image"))
    _add_output_options(parser.add_argument_group("output"))
    _add_path_options(parser.add_argument_group("model and sky"))
    _add_batch_options(parser.add_argument_group("many images"))
    other = parser.add_argument_group("other")
    other.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_version(other, "print the version")
    other.add_argument(
        "--help", action="help", help="print this help, as -h alone and no arguments do"
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
        help="bad-pixel mask, bad where not 0: a FITS file, FILE[HDU], or an HDU of the image's own file",
    )  # fmt: skip
    group.add_argument(
        "--mask-bits", metavar="BITS", type=_bits,
        help="only these bits of the mask are bad: values with commas, decimal or hexadecimal "
        "(4096,16 is 0x1010; default: any value but 0)",
    )  # fmt: skip
    group.add_argument(
        "--weight", metavar="MAP",
        help="weight map, given as a mask is: the rms map is proportional to it, scaled to the measured "
        "noise; pixels of weight 0 or infinite variance hold no data",
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
        help="do not use masks and weights that are not given; by default DQ and WHT of HST and JWST, "
        "mask and variance of HSC and LSST, and the ood and oow files of DECam are used",
    )  # fmt: skip
    group.add_argument(
        "--bayer", choices=("auto", "yes", "no"), default="auto",
        help="whether the image is a Bayer mosaic, which is separated as four planes (default: determined "
        "from BAYERPAT or the pixels)",
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
    group.add_argument("--output-dir", metavar="DIR", help="folder of the outputs; made if missing")
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
    group.add_argument(
        "--report", action="store_true",
        help="write OUTPUT.html, too: a page with before and after, sky, noise, detections and fluxes; "
        "for several images also an index, PREFIX + index.html (needs jinja2)",
    )  # fmt: skip
    group.add_argument(
        "--plot", action="store_true", help="write OUTPUT.png, too: before (left) and after"
    )


def _add_path_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-s", "--steps", metavar="STEPS", type=integer_from(1), default=1,
        help="diffusion steps: more give a sharper image, at a cost linear in them (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "-n", "--norm", metavar="NORM", type=number_from(0), default=0.0,
        help="normalisation factor: the noise is 1/NORM everywhere; 0 estimates an rms map (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--model", metavar="MODEL", default="optical",
        help="name of a model in the package, or a path to an .onnx file (default: optical)",
    )  # fmt: skip
    group.add_argument(
        "--engine", choices=("auto", "onnxruntime", "openvino", "torch"), default="auto",
        help="what runs the model; where it is not installed, onnxruntime runs it on the CPU "
        "(default: onnxruntime; with --device cuda, torch where only it has such a device)",
    )  # fmt: skip
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="where it runs (default: a GPU where the engine has one, else the CPU)",
    )  # fmt: skip
    group.add_argument(
        "--fwhm", metavar="PIXELS", type=positive_number,
        help="FWHM of the PSF in pixels (default: measured)",
    )  # fmt: skip
    group.add_argument(
        "--box", metavar="PIXELS", type=integer_from(16),
        help="box of the sky mesh in pixels; wider structure is background (default: the model's)",
    )  # fmt: skip


def _add_batch_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workers", metavar="N", type=integer_from(1),
        help="process N images at once, each with 1/N of the cores; images that an earlier such run has "
        "finished with the same options are skipped (default: one after another)",
    )  # fmt: skip
    group.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="process the images on the workers of a Dask cluster, tcp://host:port "
        "(pip install 'bgrem[dask]')",
    )  # fmt: skip
    group.add_argument(
        "--shard",
        metavar="I/N",
        type=_shard,
        help="only every N-th image, from the I-th on: one task of N on a cluster",
    )
    group.add_argument(
        "--memory", metavar="LIMIT", type=_memory,
        help="memory that a process may take, such as 2GB or 800MB: larger images are kept in temporary "
        "files in the output folder, with the same result (default: no limit)",
    )  # fmt: skip
    group.add_argument(
        "--log", metavar="FILE",
        help="write one JSON object per image: file, output, status (done, skipped, failed), seconds, "
        "model, sky, rms, norm, warnings, error",
    )  # fmt: skip


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N")
    return number, count


def _memory(text: str) -> float:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory such as 2GB")
    return float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " ")


def _minpix(text: str) -> float | str | None:
    if text.lower() in ("auto", "none"):
        return "auto" if text.lower() == "auto" else None
    return number_from()(text)


def _bits(text: str) -> int:
    from bgrem.io.maps import parse_bits

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
    from bgrem.processing.products import SAVED_PLANES

    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in SAVED_PLANES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {', '.join(SAVED_PLANES)}")
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


@command(make_parser, extra="dask", help_of=([], ["-h"]), prepared=_attach_values)
def main(options: argparse.Namespace, parser: Parser) -> int:
    """Run the command; the exit code."""
    # numpy, astropy and the model runtime take a second to import: a usage error need not wait for it.
    from bgrem.processing.outcome import Log
    from bgrem.report.pages import check_templates

    if options.workers and options.scheduler:
        parser.error("--workers is for this machine, --scheduler for a cluster")
    try:
        model = _loaded(options)
        # What is missing is better said before the work.
        if options.report:
            check_templates()
    except (ValueError, OSError) as error:
        parser.error(str(error))
    with (
        Log(options.log) if options.log else nullcontext() as log,
        closing(_outcomes(options, model)) as outcomes,
    ):
        return _report(outcomes, options, log)


def _loaded(options: argparse.Namespace):
    """The model; what stands in for an engine that is not here is told in a sentence."""
    from bgrem.inference.engines import EngineWarning
    from bgrem.inference.model import load_model

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", EngineWarning)
        model = load_model(options.model, engine=options.engine, device=options.device)
    # The workers of a cluster have engines and devices of their own.
    if not (options.quiet or options.scheduler):
        for warning in told:
            complain("bgrem", str(warning.message))
    return model


def _is_batch(options: argparse.Namespace) -> bool:
    return bool(options.workers or options.scheduler or options.shard)


def _outcomes(options: argparse.Namespace, model) -> Iterator:
    """What becomes of each image: one after another, or many at once."""
    from bgrem.processing.batch import process_batch
    from bgrem.processing.files import process_files

    names = ("files", "model", "engine", "device", "quiet", "workers", "scheduler", "shard", "log")
    arguments = {k: v for k, v in vars(options).items() if k not in names}
    if _is_batch(options):
        shares = {
            "workers": options.workers or 1,
            "scheduler": options.scheduler,
            "shard": options.shard or (1, 1),
        }
        return process_batch(options.files, model=model, **shares, **arguments)
    progress = _progress_bar if sys.stderr.isatty() and not options.quiet else None
    return process_files(options.files, model=model, progress=progress, **arguments)


def _report(outcomes: Iterator, options: argparse.Namespace, log) -> int:
    """Say what becomes of each image; the exit code."""
    from bgrem.processing.outcome import Failure
    from bgrem.report.pages import write_index

    began = time.perf_counter()
    counts, pages = Counter(), []
    for outcome in outcomes:
        if log:
            log.write(outcome)
        if isinstance(outcome, Failure):
            counts["failed"] += 1
            complain("bgrem", outcome.message)
            continue
        counts["done before" if outcome.resumed else "done"] += 1
        pages += [outcome.report] if outcome.report else []
        if not options.quiet:
            for warning in outcome.warnings:
                complain("bgrem", f"{outcome.input}: {warning}")
            print(outcome, flush=True)
    if len(pages) > 1:
        write_index(pages, options.prefix)
    if _is_batch(options) and not options.quiet:
        complain("bgrem", _summary(counts, time.perf_counter() - began))
    return 1 if counts["failed"] else 0


def _summary(counts: Counter, seconds: float) -> str:
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ("done", "done before", "failed"))
    return f"{counts.total()} images in {seconds:.1f} s: {kinds}"


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[float], None]]:
    """A bar on the terminal that is gone when the image is done."""
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}% {bar} {elapsed} < {remaining}"
    with tqdm(desc=name, total=1.0, bar_format=layout, leave=False) as bar:

        def report(fraction: float) -> None:
            bar.update(fraction - bar.n)

        yield report
