"""The command ``bgrem``: separate FITS images into sources, background and noise."""

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext

from bgrem.cli.argument_types import (
    lowest_value,
    mask_bits,
    memory_limit,
    name_prefix,
    plane_names,
    saturation,
    shard_of,
)
from bgrem.cli.arguments import (
    Parser,
    add_common_options,
    complain,
    file_name,
    integer_from,
    number_from,
    positive_number,
    run_command,
)
from bgrem.cli.catalogue_options import add_catalogue_options, gathered_catalogue
from bgrem.cli.counts_options import add_counts_options
from bgrem.storage.names import visible_text

EXAMPLES = """\
examples:
  bgrem -f image.fits                          writes BGRem_image.fits in the same folder
  bgrem -f night1/ 'night2/*.fits.fz' --output-dir clean
  bgrem -f mosaic.fits -h SCI -s 4 --save background,noise,rms,mask
  bgrem -f night1/ --workers 4 --log night1.jsonl
  bgrem -f night1/ --workers 4 --defects auto
  bgrem -f image.fits --catalog image.vot --zeropoint 25.3
  bgrem -f stack.fits --mask 'stack.mask.fits[1]' --overwrite

Sources + background + noise equal the image, to rounding. One line is printed per image. Exit
code: 0 all images written, 1 some failed (the others are written), 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, see `~bgrem.cli.arguments.run_command`."""
    return run_command(
        make_parser(), _run, argv, extra="dask", help_for=[[], ["-h"]], prepare=_attach_values
    )


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        "bgrem",
        "Separate FITS images into sources, background and noise, and write the sources of each.",
        EXAMPLES,
        usage="bgrem -f IMG [IMG ...] [-h HDU] [-s STEPS] [-n NORM] [-m MINPIX] [-p PREFIX] [options]",
        add_help=False,
    )
    _add_image_options(parser.add_argument_group("image"))
    _add_output_options(parser.add_argument_group("output"))
    add_catalogue_options(parser.add_argument_group("catalogue"))
    _add_path_options(parser.add_argument_group("model and sky"))
    add_counts_options(parser.add_argument_group("counts maps"))
    _add_batch_options(parser.add_argument_group("many images"))
    other = parser.add_argument_group("other")
    add_common_options(other)
    other.add_argument(
        "--help", action="help", help="print this help, as do -h alone and no arguments"
    )
    return parser


def _add_image_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-f", "--file", metavar="IMG", type=file_name, nargs="+", action="extend", required=True,
        dest="files",
        help="images, folders or quoted globs; may be repeated (.fits .fit .fts .fz, also with .gz or .bz2); "
        "'FILE[HDU]' names the HDU, too",
    )  # fmt: skip
    group.add_argument(
        "-h", "--hdu", metavar="HDU",
        help="HDU of the image, by number or EXTNAME, or 'all' for every 2-D picture of the file, whose maps "
        "(flags, weights, noise, models) are copied unchanged (default: 0, or the first HDU that holds a "
        "picture)",
    )  # fmt: skip
    group.add_argument("-i", dest="hdu", help=argparse.SUPPRESS)
    group.add_argument(
        "--mask", metavar="MASK", type=file_name,
        help="mask, not 0 in bad pixels: a FITS file, FILE[HDU], or an HDU of the image file",
    )  # fmt: skip
    group.add_argument(
        "--mask-bits", metavar="BITS", type=mask_bits,
        help="bits of the mask that are bad: values separated by commas, decimal or hexadecimal (4096,16 "
        "is 0x1010; default: any value but 0)",
    )  # fmt: skip
    group.add_argument(
        "--defects", metavar="MAP", type=file_name,
        help="map of the camera's defects that bgrem-defects wrote, one more mask; 'auto' measures it from the "
        "frames of this run, five or more of one detector, and writes PREFIX + defects.fits",
    )  # fmt: skip
    group.add_argument(
        "--weight", metavar="MAP", type=file_name,
        help="weight map, a file or HDU as for --mask: it gives the shape of the noise map, whose scale is "
        "measured on the image; pixels of weight 0 or infinite variance have no data",
    )  # fmt: skip
    group.add_argument(
        "--weight-type", choices=("inverse", "variance", "rms"), default="inverse",
        help="values of the weight map: inverse variance (default), variance or rms",
    )  # fmt: skip
    group.add_argument(
        "--saturate", metavar="LEVEL", type=saturation, default="header",
        help="saturation level in data units: pixels at or above it are flagged, and their light stays in "
        "the sources; 'none' for no level (default: SATURATE in the header)",
    )  # fmt: skip
    group.add_argument(
        "--no-companions", dest="companions", action="store_false",
        help="do not use masks and weight maps automatically; without this option they are taken from "
        "DQ and WHT of HST and JWST, mask and variance of HSC and LSST, MASK of ccdproc, ood and oow files of "
        "DECam",
    )  # fmt: skip
    group.add_argument(
        "--bayer", choices=("auto", "yes", "no"), default="auto",
        help="whether the image is a mosaic of a colour filter array, each colour of which has its own sky "
        "(default: decided from the pixels or BAYERPAT)",
    )  # fmt: skip
    group.add_argument(
        "-m", "--minpix", metavar="MINPIX", type=lowest_value, default="auto",
        help="lowest pixel value: lower pixels (detector failures) are first raised to it; 'none' for no "
        "limit (default: 0 if the sky level is above 5 rms, as in raw frames, else none)",
    )  # fmt: skip


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-p", "--prefix", metavar="PREFIX", type=name_prefix, default="BGRem_",
        help="the output is PREFIX + input name, in the folder of the input (default: BGRem_)",
    )  # fmt: skip
    group.add_argument(
        "--output-dir",
        metavar="DIR",
        type=file_name,
        help="folder of the outputs; created if missing",
    )
    group.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    group.add_argument(
        "--save", metavar="PLANES", type=plane_names, default=(),
        help="append planes as extensions; a list, separated by commas, of background, noise, rms, bkgerr, "
        "mask, uncertainty, significance (the last two only if the model has them)",
    )  # fmt: skip
    group.add_argument(
        "--nonnegative", action="store_true",
        help="set negative pixels of the sources to 0; their light goes to the noise",
    )  # fmt: skip
    group.add_argument(
        "--keep-level", action="store_true", help="add the median sky level to the sources"
    )
    group.add_argument(
        "--report", action="store_true",
        help="also write OUTPUT.html, a page with the image before and after, sky, noise, detections and "
        "fluxes; for several images also an index, PREFIX + index.html (needs jinja2)",
    )  # fmt: skip
    group.add_argument(
        "--plot",
        action="store_true",
        help="also write OUTPUT.png, the image before (left) and after",
    )


def _add_path_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-s", "--steps", metavar="STEPS", type=integer_from(1), default=1,
        help="number of diffusion steps: more give a sharper image; the time is proportional to them "
        "(default: 1)",
    )  # fmt: skip
    group.add_argument(
        "-n", "--norm", metavar="NORM", type=number_from(0), default=0.0,
        help="factor that scales the noise to a standard deviation of 1; 1/NORM replaces the rms map; 0 "
        "means that the map is measured (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--model", metavar="MODEL", type=file_name, default="auto",
        help="name of a model in the package, or path of an .onnx file (default: counts for maps of few counts "
        "with Poisson noise, which is reported, else optical)",
    )  # fmt: skip
    group.add_argument(
        "--engine", choices=("auto", "onnxruntime", "openvino", "torch"), default="auto",
        help="library that runs the model; if it is not installed, onnxruntime runs it on the CPU "
        "(default: onnxruntime; with --device cuda an engine that can use the GPU)",
    )  # fmt: skip
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="device that runs the model (default: a GPU if the engine can use one, else the CPU)",
    )  # fmt: skip
    group.add_argument(
        "--fwhm", metavar="PIXELS", type=positive_number,
        help="FWHM of the PSF in pixels (default: measured)",
    )  # fmt: skip
    group.add_argument(
        "--box", metavar="PIXELS", type=integer_from(16),
        help="side in pixels of the boxes of --extended, and of the cells of --sky mesh (default: that of the "
        "model)",
    )  # fmt: skip
    group.add_argument(
        "--extended", choices=("sources", "background"), default="sources",
        help="where light goes that is wider than the box, such as nebulae and the discs of large galaxies "
        "(default: sources)",
    )  # fmt: skip
    group.add_argument(
        "--sky", choices=("network", "mesh"), default="network",
        help="what measures the sky: a network that sees the whole frame, or clipped modes in the cells of a "
        "mesh, as SExtractor's, in which wide light is background (default: network)",
    )  # fmt: skip


def _add_batch_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workers", metavar="N", type=integer_from(1),
        help="process N images at once, each on 1/N of the cores; outputs of an earlier such run with the "
        "same options are kept and not made again (default: one image after another)",
    )  # fmt: skip
    group.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="process the images on the workers of a Dask cluster, tcp://host:port (pip install "
        "'bgrem[dask]')",
    )  # fmt: skip
    group.add_argument(
        "--shard",
        metavar="I/N",
        type=shard_of,
        help="process only every N-th image, starting with the I-th: one of N tasks on a cluster",
    )
    group.add_argument(
        "--memory", metavar="LIMIT", type=memory_limit,
        help="memory that a process may use, such as 2GB or 800MB; larger images are kept in temporary "
        "files in the output folder, with the same result (default: no limit)",
    )  # fmt: skip
    group.add_argument(
        "--log", metavar="FILE", type=file_name,
        help="write FILE with one JSON object per image: file, output, status (done, skipped, failed), seconds, "
        "model, sky, rms, norm, warnings, error",
    )  # fmt: skip


def _attach_values(argv: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """Write ``-m VALUE`` as ``-m=VALUE``: argparse takes a VALUE that begins with - as a flag."""
    single = {
        name for action in parser._actions if action.nargs is None for name in action.option_strings
    }
    attached, words = [], iter(argv)
    for word in words:
        value = next(words, None) if word in single else None
        attached.append(word if value is None else f"{word}={value}")
    return attached


def _run(options: argparse.Namespace, parser: Parser) -> int:
    # Imported here, so that a usage error does not wait for numpy, astropy and the model runtime.
    from bgrem.processing.file_options import models_of
    from bgrem.processing.outcome import Log
    from bgrem.report.pages import check_templates

    if options.workers and options.scheduler:
        parser.error("--workers is for this machine, --scheduler for a cluster")
    try:
        options.model, options.counts = models_of(options.model)
        model = _loaded(options)
        if options.report:
            check_templates()
    except (ValueError, OSError) as error:
        parser.error(str(error))
    gathered = gathered_catalogue(options, parser)
    with (
        Log(options.log) if options.log else nullcontext() as log,
        closing(_outcomes(options, model)) as outcomes,
    ):
        return _report(outcomes, options, log, gathered)


def _loaded(options: argparse.Namespace):
    """The model; a warning on stderr names the engine that replaces a missing one."""
    from bgrem.inference.engines import EngineWarning
    from bgrem.inference.model import optical_model

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", EngineWarning)
        model = optical_model(options.model, engine=options.engine, device=options.device)
    # The workers of a cluster have engines and devices of their own.
    if not (options.quiet or options.scheduler):
        for warning in caught:
            complain("bgrem", str(warning.message))
    return model


def _is_batch(options: argparse.Namespace) -> bool:
    return bool(options.workers or options.scheduler or options.shard)


def _outcomes(options: argparse.Namespace, model) -> Iterator:
    """The outcome of each image: one after another, or many at once; of one detector after another."""
    if options.defects != "auto":
        yield from _processed(options, options.files, options.defects, model)
        return
    from bgrem.cli.defects import frames_bar
    from bgrem.defects.camera import CameraOptions
    from bgrem.defects.night import shares_of

    asked = CameraOptions(
        hdu=options.hdu, companions=options.companions, memory=options.memory, lenient=True
    )
    bar, place = frames_bar(quiet=options.quiet), (options.prefix, options.output_dir)
    for share in shares_of(options.files, *place, model=model, options=asked, progress=bar):
        yield from share.failures
        for note in share.notes if not options.quiet else ():
            complain("bgrem", note)
        if share.paths:
            yield from _processed(options, share.paths, share.map, model)


def _processed(options: argparse.Namespace, files, defects, model) -> Iterator:
    from bgrem.processing.batch import process_batch
    from bgrem.processing.files import process_files

    names = ("files", "model", "engine", "device", "quiet", "workers", "scheduler", "shard", "log")
    arguments = {k: v for k, v in vars(options).items() if k not in names} | {"defects": defects}
    if _is_batch(options):
        shares = {
            "workers": options.workers or 1,
            "scheduler": options.scheduler,
            "shard": options.shard or (1, 1),
        }
        return process_batch(files, model=model, **shares, **arguments)
    progress = _progress_bar if sys.stderr.isatty() and not options.quiet else None
    return process_files(files, model=model, progress=progress, **arguments)


def _report(outcomes: Iterator, options: argparse.Namespace, log, gathered) -> int:
    """Print the outcome of each image; return the exit code."""
    from bgrem.processing.outcome import Failure
    from bgrem.report.pages import write_index

    began = time.perf_counter()
    counts, pages, catalogues = Counter(), [], {}
    for outcome in outcomes:
        if log:
            log.write(outcome)
        if isinstance(outcome, Failure):
            counts["failed"] += 1
            complain("bgrem", outcome.message)
            continue
        counts["done before" if outcome.resumed else "done"] += 1
        pages += [outcome.report] if outcome.report else []
        catalogues |= {outcome.input: outcome.catalog} if outcome.catalog else {}
        if not options.quiet:
            for warning in outcome.warnings:
                complain("bgrem", f"{outcome.input}: {warning}")
            print(outcome, flush=True)
    if len(pages) > 1:
        write_index(pages, options.prefix)
    if gathered and catalogues:
        from bgrem.catalogue.catalogue_files import gather_catalogues

        gather_catalogues(catalogues, gathered)
    if _is_batch(options) and not options.quiet:
        complain("bgrem", _summary(counts, time.perf_counter() - began))
    return 1 if counts["failed"] else 0


def _summary(counts: Counter, seconds: float) -> str:
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ("done", "done before", "failed"))
    return f"{counts.total()} images in {seconds:.1f} s: {kinds}"


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on the terminal, removed when the image is done."""
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}% {bar} {elapsed} < {remaining}"
    with tqdm(desc=visible_text(name), total=1.0, bar_format=layout, leave=False) as bar:

        def report(fraction: float) -> None:
            bar.update(fraction - bar.n)

        yield report
