"""The command ``bgrem-evaluate``: how many true sources, at how many false ones."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bgrem.cli.arguments import (
    Parser,
    add_common_options,
    complain,
    file_name,
    integer_from,
    positive_number,
    run_command,
    sentence,
)
from bgrem.storage.names import visible_text

PROGRAM = "bgrem-evaluate"

EXAMPLES = """\
examples:
  bgrem-evaluate --simulate 8                     MeerLICHT frames with known truth
  bgrem-evaluate --pair single.fits deep.fits     a real frame and a deep stack of its field
  bgrem-evaluate --inject my.fits                 your frame, with sources of known flux drawn into it
  bgrem-evaluate --simulate 4 --model none        the baselines alone
  bgrem-evaluate --counts 10                      counts maps of gamma rays and X-rays with known truth

SINGLE holds the exposure in its first image and may have an HDU MASK; DEEP has the HDUs SCI and SE
(standard error), on the same grid and flux scale. The table gives true detections at 10, 30, 100 and
300 false ones per megapixel, where the area allows at least ten false. --inject measures the PSF and
the noise on the frame, and compares methods whose lists are equally long; it says how deep each goes
(S/N and magnitudes), what it finds at each S/N, and how right the fluxes are. --counts compares with
gammapy's TS map of the true background, where gammapy is installed; it gives fluxes and false alarms, too.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, see `~bgrem.cli.arguments.run_command`."""
    return run_command(make_parser(), _run, argv, extra="evaluate")


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        PROGRAM,
        "Count true and false detections of bgrem, SExtractor and a matched filter.",
        EXAMPLES,
    )
    parser.add_argument(
        "--pair", nargs=2, type=file_name, action="append", default=[], metavar=("SINGLE", "DEEP"),
        help="FITS files of one exposure and of a deep stack of the same field (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--inject", nargs="+", type=file_name, action="extend", default=[], metavar="IMG",
        help="FITS images into which sources are drawn (repeatable); of large ones the middle",
    )  # fmt: skip
    _add_frame_options(parser)
    parser.add_argument(
        "--simulate", type=integer_from(1), metavar="N", help="number of simulated frames"
    )
    parser.add_argument(
        "--counts", type=integer_from(1), metavar="N",
        help="number of simulated counts maps of each kind and level",
    )  # fmt: skip
    parser.add_argument(
        "--scenes", metavar="FILE", type=file_name,
        help="TOML file with seed, [scene] and [vary] of the simulated frames (default: MeerLICHT); with "
        "--counts of its kinds of maps (default: Fermi-LAT and Chandra)",
    )  # fmt: skip
    parser.add_argument(
        "--model",
        default="optical",
        type=file_name,
        help="model's name or .onnx file; 'none' leaves bgrem out",
    )
    parser.add_argument(
        "--steps", type=integer_from(1), default=1, help="diffusion steps (default: 1)"
    )
    parser.add_argument(
        "--program", action="store_true", help="run the source-extractor program as well"
    )
    parser.add_argument(
        "--others", action="store_true",
        help="run SEP, photutils, NoiseChisel and wavelet denoising as well; with --counts TS maps with wrong "
        "backgrounds (slow)",
    )  # fmt: skip
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        type=file_name,
        help="write table (JSON), curves (CSV) and plot (PNG) there",
    )
    add_common_options(parser, quiet="print no progress on stderr")
    return parser


def _add_frame_options(parser: Parser) -> None:
    parser.add_argument("--hdu", help="HDU of the images of --inject, number or EXTNAME")
    parser.add_argument(
        "--gain", type=positive_number, metavar="ELECTRONS",
        help="electrons per data unit of --inject (default: from the header, else from the noise of the sky)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=integer_from(0), default=0, help="of the sources of --inject (default: 0)"
    )
    parser.add_argument(
        "--fwhm", type=positive_number, metavar="PIXELS",
        help="FWHM of a Gaussian PSF of pairs and --inject (default: the PSF is measured)",
    )  # fmt: skip


def _run(options: argparse.Namespace, parser: Parser) -> int:
    if options.counts:
        if options.pair or options.simulate or options.inject:
            parser.error("--counts is not combined with --pair, --simulate and --inject")
        return _counts(options)
    if not options.pair and not options.simulate and not options.inject:
        parser.error("give --pair SINGLE DEEP, --simulate N, --inject IMG or --counts N")
    from bgrem.evaluate.comparison import evaluate_frames
    from bgrem.evaluate.methods import benchmark_frames, comparison_methods, deep_enough, pair_frame

    model = None
    if options.model != "none":
        from bgrem.inference.model import optical_model

        model = optical_model(options.model)
    chosen = comparison_methods(
        model=model, steps=options.steps, program=options.program, others=options.others,
        enough=deep_enough,
    )  # fmt: skip
    show = None if options.quiet else _show
    results = {}
    if options.simulate:
        settings = _settings(options.scenes)
        title = settings.get("title", "simulated frames")
        frames = benchmark_frames(options.simulate, settings)
        name = Path(options.scenes).stem if options.scenes else "simulated"
        results[name] = evaluate_frames(frames, chosen, title=title, progress=show)
    for single, deep in options.pair:
        frames = [pair_frame(single, deep, fwhm=options.fwhm)]
        name = Path(single).name.split(".")[0]
        results[name] = evaluate_frames(frames, chosen, title=visible_text(name), progress=show)
    for name, result in results.items():
        rows = result.rows()
        print(result.table(rows), end="\n\n")
        if options.output_dir:
            for path in result.write(options.output_dir, name, rows=rows):
                print(visible_text(path))
    if len(options.pair) > 1:
        _pool([results[Path(single).name.split(".")[0]] for single, _ in options.pair], options)
    return _inject(options, model, show) if options.inject else 0


def _pool(results: list, options: argparse.Namespace) -> None:
    """All pairs as one."""
    from bgrem.evaluate.comparison import pooled_rows
    from bgrem.evaluate.tables import text_table, write_json

    rows = pooled_rows(results)
    print(f"{len(results)} pairs pooled")
    print(text_table(rows) if rows else "no pair is large enough for any rate", end="\n\n")
    if options.output_dir:
        print(visible_text(write_json(Path(options.output_dir) / "pairs.json", {"rows": rows})))


def _inject(options: argparse.Namespace, model, show) -> int:
    """Each image separately, then a row for each; 1 where one failed."""
    import numpy as np

    from bgrem.evaluate.inject import evaluate_injected
    from bgrem.evaluate.injection_report import summary_table
    from bgrem.evaluate.target import read_target

    hdu = int(options.hdu) if options.hdu and options.hdu.isdigit() else options.hdu
    results, failed = [], False
    for number, path in enumerate(options.inject):
        rng = np.random.default_rng([options.seed, number])
        try:
            target = read_target(path, hdu=hdu, fwhm=options.fwhm, gain=options.gain)
            result = evaluate_injected(
                target, model=model, steps=options.steps, rng=rng, progress=show
            )
        except (OSError, ValueError) as error:
            message = sentence(error)
            complain(PROGRAM, message if str(path) in message else f"{path}: {message}")
            failed = True
            continue
        results.append(result)
        print(result.table(), end="\n\n")
        if options.output_dir:
            for written in result.write(options.output_dir, Path(path).name.split(".")[0]):
                print(visible_text(written))
    if len(results) > 1:
        print(summary_table(results))
    return int(failed)


def _counts(options: argparse.Namespace) -> int:
    """Simulated counts maps: all tables."""
    from bgrem.counts.counts_model import COUNTS_MODEL, load_counts_model
    from bgrem.counts_training.counts_evaluation import (
        counts_separation,
        evaluate_counts,
        usual_groups,
    )
    from bgrem.counts_training.counts_froc import read_counts_groups
    from bgrem.evaluate.tables import text_table, write_json

    model = load_counts_model(COUNTS_MODEL if options.model == "optical" else options.model)
    groups = read_counts_groups(options.scenes) if options.scenes else usual_groups(options.counts)
    tables = evaluate_counts(
        counts_separation(model), groups, number=options.counts, others=options.others,
        threshold_for=model.threshold_for if model.false_alarms else None,
        blank_number=options.counts, progress=None if options.quiet else _show,
    )  # fmt: skip
    for title, rows in tables.items():
        print(f"{title}\n{text_table(rows)}", end="\n\n")
    if options.output_dir:
        print(visible_text(write_json(Path(options.output_dir) / "counts.json", tables)))
    return 0


def _settings(path: str | None) -> dict:
    """The benchmark of a TOML file, or frames of the default scene."""
    if path is None:
        return {"title": "simulated MeerLICHT frames", "scene": {"shape": [1024, 1024]}}
    import tomllib

    with open(path, "rb") as file:
        try:
            return tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: {error}") from error


def _show(text: str) -> None:
    print(visible_text(text), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
