"""The command ``bgrem-train``: train a network on simulated skies and write it as a model."""

import argparse
import logging
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bgrem.cli.arguments import Parser, command, complain, integer_from, number_from

EXAMPLES = """\
examples:
  bgrem-train configs/optical.toml --output-dir runs/optical
  bgrem-train configs/optical.toml --output-dir runs/optical --stop-after 60
  bgrem-train configs/optical.toml --output-dir runs/optical --export-only
  bgrem -f image.fits --model runs/optical/optical.onnx
  bgrem-train --from-fits night/*.fits --output-dir mine     your telescope, from the shipped model
  bgrem -f image.fits --model mine/own.onnx

The folder gets checkpoint.pt, log.jsonl (losses, and detections on held-out scenes), and at the end
NAME.onnx, the model for bgrem, and NAME.safetensors, the weights, for "start" in another
configuration. The same command continues a training; on a CPU the result is bit by bit that of a
training without interruption. Ctrl-C saves and ends it after the step in progress; Ctrl-C twice
ends it at once. Exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        prog="bgrem-train",
        usage="bgrem-train {CONFIG.toml | --from-fits IMG ...} --output-dir DIR [options]",
        description="Train a network on simulated skies, or further on your own frames, and "
        "write it as a model for bgrem.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "config", metavar="CONFIG.toml", nargs="?", help="configuration of the training"
    )
    parser.add_argument(
        "--from-fits", metavar="IMG", nargs="+", default=[],
        help="train the shipped model further on skies with the noise, the background and the PSF of "
        "these frames; their sources need not be known",
    )  # fmt: skip
    parser.add_argument(
        "--name", help="of the model of --from-fits (default: own, which gives own.onnx)"
    )
    parser.add_argument(
        "--output-dir", metavar="DIR", required=True,
        help="folder of checkpoint, log and model; made if missing, else the training resumes",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="where the network runs; auto is CUDA where there is a usable GPU (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", metavar="N", type=integer_from(0), default=1,
        help="processes that draw scenes, 0 to draw them in this one (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", metavar="N", type=integer_from(1),
        help="threads of the network on a CPU (default: one per core)",
    )  # fmt: skip
    parser.add_argument(
        "--stop-after", metavar="MINUTES", type=number_from(0),
        help="save the checkpoint, write the model and end after MINUTES; the same command continues",
    )  # fmt: skip
    parser.add_argument(
        "--extend", action="store_true",
        help="continue with other steps or decay in CONFIG.toml, which is possible until "
        "the learning rate begins to fall",
    )  # fmt: skip
    parser.add_argument(
        "--export-only", action="store_true",
        help="write the model of the folder's checkpoint and end",
    )  # fmt: skip
    _add_intervals(parser)
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_version()
    return parser


def _add_intervals(parser: Parser) -> None:
    parser.add_argument(
        "--report-every", metavar="STEPS", type=integer_from(1), default=200,
        help="steps between lines of the log (default: 200)",
    )  # fmt: skip
    parser.add_argument(
        "--save-every", metavar="STEPS", type=integer_from(1), default=1000,
        help="steps between checkpoints (default: 1000)",
    )  # fmt: skip
    parser.add_argument(
        "--validate-every", metavar="STEPS", type=integer_from(0), default=2000,
        help="steps between validations by detection on held-out scenes, 0 for none "
        "(default: 2000)",
    )  # fmt: skip


def _run(options: argparse.Namespace) -> int:
    # A usage error need not wait for the import of torch.
    from bgrem.train import loop as train
    from bgrem.train.config import fine_tuning_config, load_config
    from bgrem.train.export import export, model_path
    from bgrem.train.own_sky import read_own_sky

    if options.from_fits:
        config = fine_tuning_config(options.from_fits, name=options.name or "own")
        for path in config.frames:  # what is wrong with one is better said before the work
            read_own_sky(path)
    else:
        config = load_config(options.config)
    device = _device(options.device)
    _set_threads(options.threads)
    if options.export_only:
        training = train.Training(config)
        # How the training was extended does not matter here.
        training.load(train.checkpoint_path(options.output_dir), extend=True)
        print(export(training, options.output_dir))
        return 0
    with _interrupts() as received, _progress(config.steps, options.quiet) as progress:
        training = train.train(
            config,
            options.output_dir,
            device=device,
            workers=options.workers,
            stop_after=None if options.stop_after is None else 60 * options.stop_after,
            stop=lambda: bool(received),
            extend=options.extend,
            report=options.report_every,
            save=options.save_every,
            validation=options.validate_every,
            progress=progress,
        )
    if received:
        complain("bgrem-train", f"interrupted and saved at step {training.step} of {config.steps}")
        return 128 + received[0]
    print(model_path(config, options.output_dir))
    return 0


def _device(name: str) -> str:
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("there is no GPU that CUDA can use")
    return "cuda" if name != "cpu" and available else "cpu"


def _set_threads(count: int | None) -> None:
    import torch

    if count:
        torch.set_num_threads(count)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the first signal to end instead of ending; the second one ends."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in before:
            signal.signal(number, note)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(steps: int, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar below the log on a terminal; the log alone, with times, elsewhere."""
    logger = logging.getLogger("bgrem")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        if quiet or not sys.stderr.isatty():
            yield None
        else:
            with _bar(steps, logger) as progress:
                yield progress
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def _bar(steps: int, logger: logging.Logger) -> Iterator[Callable[[int], None]]:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with logging_redirect_tqdm([logger]), tqdm(total=steps, unit=" steps", smoothing=0.02) as bar:

        def report(step: int) -> None:
            if bar.n == 0 and step > 1:  # resumed: what was done before took no time now
                bar.initial = bar.n = step - 1
                bar.unpause()
            bar.update(step - bar.n)

        yield report


@command(make_parser, extra="train")
def main(options: argparse.Namespace, parser: Parser) -> int:
    """Run the command; the exit code."""
    if bool(options.config) == bool(options.from_fits):
        parser.error("give either CONFIG.toml or --from-fits IMG ...")
    if options.name and not options.from_fits:
        parser.error("--name goes with --from-fits: CONFIG.toml has a name")
    if options.name and not re.fullmatch(r"[\w-]+", options.name):
        parser.error(f"--name {options.name} must be of letters, digits, - and _")
    return _run(options)


if __name__ == "__main__":
    sys.exit(main())
