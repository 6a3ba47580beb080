"""The command ``bgrem-train``: train a network on simulated skies and write it as a model."""

import argparse
import logging
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bgrem.cli.arguments import (
    Parser,
    add_common_options,
    complain,
    file_name,
    integer_from,
    number_from,
    run_command,
)
from bgrem.storage.names import visible_text

EXAMPLES = """\
examples:
  bgrem-train configs/optical-1.toml --output-dir runs/optical
  bgrem-train configs/optical-1.toml --output-dir runs/optical --stop-after 60
  bgrem-train configs/optical-1.toml --output-dir runs/optical --export-only
  bgrem -f image.fits --model runs/optical/optical.onnx
  bgrem-train --from-fits night/*.fits --output-dir mine     adapts the shipped model to your frames
  bgrem -f image.fits --model mine/own.onnx
  bgrem-train configs/sky.toml --output-dir runs/sky --workers 2      the network that measures the sky
  bgrem-train configs/counts.toml --output-dir runs/counts             the model of counts maps

DIR receives checkpoint.pt, log.jsonl (losses, and detections on held-out scenes) and at the end
NAME.onnx, the model for bgrem, and NAME.safetensors, the weights. A configuration with kind = "sky"
trains a sky network: its frames are drawn first, into frames/ and held_out/, log.jsonl has its errors
on the held-out ones, and NAME.sky.onnx is the network, which bgrem uses with the NAME.onnx beside it.
Another configuration can start from these weights with its entry "start". The same command resumes a
training that was interrupted; on a CPU, the result is bit for bit the same as without the interruption.
Ctrl-C ends the training after the current step and saves it; a second Ctrl-C ends it at once. Exit
code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, see `~bgrem.cli.arguments.run_command`."""
    return run_command(make_parser(), _run, argv, extra="train")


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        "bgrem-train",
        "Train a network on simulated images, or adapt the shipped one to your frames, and write it\n"
        "as a model for bgrem.",
        EXAMPLES,
        usage="bgrem-train {CONFIG.toml | --from-fits IMG ...} --output-dir DIR [options]",
    )
    parser.add_argument(
        "config",
        metavar="CONFIG.toml",
        type=file_name,
        nargs="?",
        help="configuration of the training",
    )
    parser.add_argument(
        "--from-fits", metavar="IMG", type=file_name, nargs="+", default=[],
        help="train the shipped model further on simulated images that have the noise, background and "
        "PSF of these frames, measured between their sources; no catalogue is needed",
    )  # fmt: skip
    parser.add_argument(
        "--name", help="name of the model of --from-fits (default: own, written as own.onnx)"
    )
    parser.add_argument(
        "--output-dir", metavar="DIR", type=file_name, required=True,
        help="folder of checkpoint, log and model; created if missing; a training in it is resumed",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="device that runs the network; auto uses CUDA if there is a usable GPU (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", metavar="N", type=integer_from(0), default=1,
        help="number of processes that draw scenes, or the frames of a sky network; 0 draws scenes in the main "
        "process (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", metavar="N", type=integer_from(1),
        help="number of threads of the network on a CPU (default: one per core)",
    )  # fmt: skip
    parser.add_argument(
        "--stop-after", metavar="MINUTES", type=number_from(0),
        help="end after MINUTES: save the training and write the model; run again to resume",
    )  # fmt: skip
    parser.add_argument(
        "--extend", action="store_true",
        help="resume although steps or decay in CONFIG.toml have changed; possible until the learning "
        "rate begins to fall",
    )  # fmt: skip
    parser.add_argument(
        "--export-only", action="store_true",
        help="write the model from the checkpoint in DIR, without training",
    )  # fmt: skip
    _add_intervals(parser)
    add_common_options(parser)
    return parser


def _add_intervals(parser: Parser) -> None:
    parser.add_argument(
        "--report-every", metavar="STEPS", type=integer_from(1), default=200,
        help="number of steps between lines of the log (default: 200)",
    )  # fmt: skip
    parser.add_argument(
        "--save-every", metavar="STEPS", type=integer_from(1), default=1000,
        help="number of steps between checkpoints (default: 1000)",
    )  # fmt: skip
    parser.add_argument(
        "--validate-every", metavar="STEPS", type=integer_from(0), default=2000,
        help="number of steps between validations, which measure detections on held-out scenes, or the errors of "
        "a sky network on held-out frames; 0 for none (default: 2000)",
    )  # fmt: skip


def _run(options: argparse.Namespace, parser: Parser) -> int:
    if bool(options.config) == bool(options.from_fits):
        parser.error("give either CONFIG.toml or --from-fits IMG ...")
    if options.name and not options.from_fits:
        parser.error("--name needs --from-fits; CONFIG.toml has its own name")
    if options.name and not re.fullmatch(r"[\w-]+", options.name):
        parser.error(f"--name {options.name} may contain only letters, digits, - and _")
    # Imported here, so that a usage error does not wait for torch.
    from bgrem.train.export import model_path
    from bgrem.train.loop import checkpoint_path

    config, kind, learn, write = _work(options)
    device = _device(options.device)
    _set_threads(options.threads)
    if options.export_only:
        training = kind(config)
        # Whether the training was extended does not matter here.
        training.load(checkpoint_path(options.output_dir), extend=True)
        print(visible_text(write(training, options.output_dir)))
        return 0
    with _interrupts() as received, _progress(config.steps, options.quiet) as progress:
        training = learn(
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
    print(visible_text(model_path(config, options.output_dir)))
    return 0


def _work(options: argparse.Namespace) -> tuple:
    """The configuration, the class of its training, and what trains and what writes the model."""
    from bgrem.train.config import SkyConfig, fine_tuning_config, kind_of_config, load_config
    from bgrem.train.export import export
    from bgrem.train.loop import Training, train
    from bgrem.train.own_sky import read_own_sky
    from bgrem.train.sky_loop import SkyTraining, export_trained, train_sky

    if options.from_fits:
        config = fine_tuning_config(options.from_fits, name=options.name or "own")
        for path in config.frames:  # a frame that cannot be used is reported before the work
            read_own_sky(path, apart=path == config.judged)
        read_own_sky(config.judged)
        return config, Training, train, export
    if kind_of_config(options.config) == "counts":
        from bgrem.counts_training.counts_config import load_counts_config
        from bgrem.counts_training.counts_export import export_counts
        from bgrem.counts_training.counts_loop import CountsTraining, train_counts

        return load_counts_config(options.config), CountsTraining, train_counts, export_counts
    config = load_config(options.config)
    if isinstance(config, SkyConfig):
        return config, SkyTraining, train_sky, export_trained
    return config, Training, train, export


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
    """Collect the first interrupt or termination; the second one ends the process."""
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
    """Log to stderr with times; on a terminal also show a progress bar."""
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
            if bar.n == 0 and step > 1:  # resumed: earlier steps do not count in the speed
                bar.initial = bar.n = step - 1
                bar.unpause()
            bar.update(step - bar.n)

        yield report


if __name__ == "__main__":
    sys.exit(main())
