"""The whole command beside everything else that is run on a frame: seconds and peak of memory.

    python benchmarks/speed/suite.py
    python benchmarks/speed/suite.py --sides 10560 --stage-side 10560 --steps 1 \
        --methods bgrem published sextractor --tables methods stages
    python benchmarks/speed/suite.py --quick

Every run is a process of its own that reads a FITS file and writes what it makes; the quickest of
--repeat counts, or the first where it takes more than a minute. In one run:

- bgrem with each engine that is installed, on the processor and on a GPU where there is one;
- BGRem's published network and tiling, rebuilt with random weights (`published.py`), in TensorFlow as
  its own script runs it, and by bgrem's engine, ONNX Runtime, ten tiles at a time as the script has it
  and one by one, which suits that engine better;
- SExtractor's default run, the backgrounds of SEP and photutils, and wavelets (`rivals.py`);
- the stages of bgrem, its threads, and a batch of images with workers.

The frame is a simulated MeerLICHT scene of 1024 pixels and its reflections. "peak GB" is that of the
largest process (1e9 bytes), files that it has mapped included; "GB beyond" is without the frame's file.
Nothing else should run beside it: "processor s" shows when something did.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from astropy.io import fits
from process import CommandError, Usage, measure
from rivals import RIVALS
from stages import REST, STAGES, time_stages

from bgrem.detection.sextractor import DEFAULT_CONV
from bgrem.evaluate.baselines import source_extractor_program
from bgrem.evaluate.tables import text_table, write_json
from bgrem.inference.engines import cores
from bgrem.inference.model import load_model
from bgrem.simulate import Scene, draw

sys.path.append(str(Path(__file__).resolve().parents[1]))
from command import command_parser, made_with

HERE = Path(__file__).resolve().parent
# The code that is measured is that of this checkout.
PYTHONPATH = filter(None, (str(HERE.parents[1]), os.environ.get("PYTHONPATH")))
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(PYTHONPATH)}
PUBLISHED = HERE / "published.py"
METHODS = ("bgrem", "published", "sextractor", *RIVALS)
TABLES = ("methods", "stages", "threads", "workers")
SCENE = 1024  # px, side of what is drawn; the rest are its reflections
OUTSIDE = "no tile in the network"
PATIENCE = 60.0  # seconds: what takes longer is run once
#: The columns of SExtractor's catalogue: Debian's default.param asks for none at all.
COLUMNS = "NUMBER FLUX_ISO FLUXERR_ISO FLUX_AUTO FLUXERR_AUTO X_IMAGE Y_IMAGE FLAGS"
# What an engine says of itself, or the last line of what hinders it.
PROBE = """\
import sys, warnings
from bgrem.inference.engines import EngineWarning
from bgrem.inference.model import load_model
warnings.simplefilter("error", EngineWarning)
print(load_model(sys.argv[1], engine=sys.argv[2], device=sys.argv[3]).engine)
"""


@dataclass(frozen=True)
class Method:
    """Something that is run on a frame.

    Attributes
    ----------
    name : str
    command : callable
        Of the frame's path, the folder to write into and the number of steps: program and arguments.
    stepped : bool
        Whether it takes diffusion steps.
    missing : str
        Why it cannot be run here, empty where it can.
    """

    name: str
    command: Callable[[Path, Path, int], list]
    stepped: bool = False
    missing: str = ""


def main(argv=None):
    """Measure, print and write."""
    options = make_parser().parse_args(argv)
    began = time.perf_counter()
    model = load_model(options.model)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        tables = measured(options, model, Path(folder))
    report(options, tables, model, time.perf_counter() - began)


def make_parser():
    """The options of the command."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--sides", type=int, nargs="+", default=[1024, 2048, 4096], help="of the frames in pixels")
    add("--steps", type=int, nargs="+", default=[1, 4], help="diffusion steps")
    add("--methods", nargs="+", choices=METHODS, default=METHODS, help="only these")
    add("--tables", nargs="+", choices=TABLES, default=TABLES, help="only these")
    add("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads")
    add("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers")
    add(
        "--stage-side",
        type=int,
        default=4096,
        help="of the largest frame whose stages and threads are looked at, in pixels",
    )
    add("--batch", type=int, default=32, help="images of the batch for the workers")
    add("--batch-side", type=int, default=2048, help="of an image of the batch in pixels")
    add("--repeat", type=int, default=2, help="runs of each; the quickest counts")
    add("--tensorflow", metavar="PYTHON", default=os.environ.get("TENSORFLOW"),
        help="an interpreter that has TensorFlow, NumPy and Astropy (or $TENSORFLOW)")  # fmt: skip
    add("--folder", help="for frames and outputs (default: a temporary one)")
    add("--json", metavar="FILE", help="write the results there, too, and a plot beside them")
    add("--quick", action=Quick, nargs=0, help="tiny frames, once: to try it")
    return parser


class Quick(argparse.Action):
    """Everything small; an option after it is taken all the same."""

    def __call__(self, parser, namespace, values, option_string=None):
        vars(namespace).update(sides=[256], steps=[1], repeat=1, batch=2, batch_side=256)


def measured(options, model, folder):
    """The tables that are wanted, by their titles."""
    part = scene(min(SCENE, max(*options.sides, options.batch_side)))
    tables = {}
    if "methods" in options.tables:
        methods = methods_of(options, folder)
        frames = {side: write_frame(folder / f"{side}.fits", side, part) for side in options.sides}
        tables["whole commands"] = compared(methods, frames, options, folder)
        tables |= agreement(folder)
    side = max([n for n in options.sides if n <= options.stage_side] or [options.stage_side])
    frame = write_frame(folder / f"{side}.fits", side, part)
    if "stages" in options.tables:
        tables[f"stages of bgrem, {side} pixels"] = staged(frame, model, options, folder)
    if "threads" in options.tables:
        tables[f"threads, {side} pixels"] = threaded(frame, side, options, folder)
    if "workers" in options.tables:
        frame = write_frame(folder / "image.fits", options.batch_side, part)
        title = f"a batch of {options.batch} images of {options.batch_side} pixels"
        tables[title] = batched(frame, options, folder)
    return tables


# ---- frames ------------------------------------------------------------------------------


def scene(side):
    """A MeerLICHT frame."""
    return draw(Scene(shape=(side, side)), np.random.default_rng([20_261_122, 5])).data


def write_frame(path, side, part):
    """Write a part of the sky and its reflections, a strip of which is in memory; the path."""
    if path.exists():
        return path
    where = np.pad(np.arange(len(part)), (0, max(side - len(part), 0)), mode="symmetric")[:side]
    header = fits.PrimaryHDU(np.zeros((1, 1), np.float32)).header
    header["NAXIS1"] = header["NAXIS2"] = side
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        for top in range(0, side, 256):
            file.write(part[np.ix_(where[top : top + 256], where)].astype(">f4").tobytes())
        file.write(b"\0" * (-file.tell() % 2880))
    return path


# ---- what is run -------------------------------------------------------------------------


def methods_of(options, folder):
    """What is to be run, bgrem's default first: the others are compared with it."""
    makers = {
        "bgrem": lambda: bgrem_methods(options.model),
        "published": lambda: published_methods(options.tensorflow, folder),
        "sextractor": lambda: [sextractor_method(folder)],
    }
    makers |= {name: lambda name=name: [rival_method(name)] for name in RIVALS}
    return [method for name in METHODS if name in options.methods for method in makers[name]()]


def bgrem_command(model, *arguments):
    """What runs bgrem on a frame."""

    def command(frame, folder, steps):
        return [
            sys.executable, "-m", "bgrem", "-f", frame, "-s", steps, "--model", model,
            "--output-dir", folder / "out", "--overwrite", "--quiet", *arguments,
        ]  # fmt: skip

    return command


def bgrem_methods(model):
    """The command with each engine, where it has more than one; ONNX Runtime on the processor first."""
    known = engines()
    default = ["--engine", "onnxruntime", "--device", "cpu"] if known else []
    methods = [Method("bgrem", bgrem_command(model, *default), True)]
    for engine in known:
        for device in ("cpu", "cuda"):
            chosen = ["--engine", engine, "--device", device]
            if chosen == default:
                continue
            name, missing = probed(model, engine, device)
            # Most machines have no GPU, and most engines none of their own.
            if device == "cpu" or not missing:
                command = bgrem_command(model, *chosen)
                methods.append(Method(f"bgrem, {name}", command, True, missing))
    return methods


def engines():
    """What the command's help names after ``--engine``; nothing where there is no such option."""
    text = said([sys.executable, "-m", "bgrem", "--help"]).stdout
    _, _, choices = text.partition("--engine {")
    return [name for name in choices.partition("}")[0].split(",") if name not in ("", "auto")]


def probed(model, engine, device):
    """An engine's description of itself, and why it cannot be had."""
    done = said([sys.executable, "-c", PROBE, model, engine, device])
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        return engine, reason.removeprefix("bgrem.inference.engines.EngineWarning: ")
    return done.stdout.strip(), ""


def said(command):
    """A finished command, with its output as text."""
    # A terminal's width would break the help's lines elsewhere.
    environment = os.environ | ENVIRONMENT | {"COLUMNS": "200"}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def published_methods(tensorflow, folder):
    """BGRem as it was published, by both engines."""
    missing = "" if find_spec("onnx") else "onnx is not installed"
    network = folder / "published.onnx"
    if not missing:
        subprocess.run([sys.executable, PUBLISHED, network], check=True)

    def by_onnxruntime(batch):
        def command(frame, folder, steps):
            return [
                sys.executable, PUBLISHED, frame, folder / f"onnxruntime-{batch}.fits",
                "--onnx", network, "--steps", steps, "--batch", batch,
            ]  # fmt: skip

        return command

    def by_tensorflow(frame, folder, steps):
        # -E: the variables are made for another interpreter.
        return [
            tensorflow, "-E", PUBLISHED, frame, folder / "tensorflow.fits",
            "--engine", "tensorflow", "--steps", steps,
        ]  # fmt: skip

    absent = "" if tensorflow else "no --tensorflow PYTHON was given"
    return [
        Method("BGRem rebuilt, TensorFlow", by_tensorflow, True, absent),
        Method("BGRem rebuilt, ONNX Runtime", by_onnxruntime(10), True, missing),
        Method("the same, tile by tile", by_onnxruntime(1), True, missing),
    ]


def sextractor_method(folder):
    """SExtractor with the settings that it prints itself; what it needs is put into the folder."""
    program = source_extractor_program()
    if program:
        kernel = "\n".join(" ".join(f"{value:g}" for value in row) for row in DEFAULT_CONV)
        (folder / "default.conv").write_text(f"CONV NORM\n{kernel}\n")
        (folder / "default.param").write_text(COLUMNS.replace(" ", "\n") + "\n")
        (folder / "default.sex").write_text(said([program, "-d"]).stdout)
    return Method(
        "SExtractor, its default", lambda frame, folder, steps: [program, frame.name],
        missing="" if program else "source-extractor is not installed",
    )  # fmt: skip


def rival_method(name):
    """One of `rivals.py`."""
    module, _ = RIVALS[name]

    def command(frame, folder, steps):
        return [sys.executable, HERE / "rivals.py", name, frame, folder / f"{name}.fits"]

    titles = {"sep": "SEP background", "photutils": "photutils Background2D"}
    missing = "" if find_spec(module) else f"{module} is not installed"
    return Method(titles.get(name, name), command, missing=missing)


# ---- measuring ---------------------------------------------------------------------------


def compared(methods, frames, options, folder):
    """Rows of every method on every frame, with the ratios to the first."""
    rows = []
    for method in methods:
        runs = [
            (steps, side)
            for steps in (options.steps if method.stepped else [None])
            for side in frames
        ]
        # A missing program is reported once.
        for steps, side in runs[:1] if method.missing else runs:
            rows.append(row_of(method, steps, side, frames[side], options, folder))
    return with_ratios(rows)


def row_of(method, steps, side, frame, options, folder):
    """One line of the table."""
    usage, remark = None, method.missing
    if not remark:
        tell(f"{method.name}, {side} pixels" + (f", -s {steps}" if steps else ""))
        try:
            usage = quickest(method.command(frame, folder, steps), folder, options.repeat)
        except CommandError as error:
            remark = f"failed: {error}"
    return {
        "what": method.name, "side": side, "steps": steps, **figures(usage, side**2 / 1e6),
        "GB beyond": usage and (usage.peak - frame.stat().st_size) / 1e9, "remark": remark,
    }  # fmt: skip


def quickest(command, folder, repeat, cores=None):
    """What the quickest run of a command took."""
    runs = []
    while len(runs) < repeat and sum(run.seconds for run in runs) < PATIENCE:
        # What a batch has done is not done again.
        shutil.rmtree(folder / "out", ignore_errors=True)
        runs.append(measure(command, cores=cores, folder=folder, environment=ENVIRONMENT))
    return min(runs)


def figures(usage: Usage | None, area):
    """Columns of what a run took."""
    return {
        "seconds": usage and usage.seconds,
        "Mpix/s": usage and area / usage.seconds,
        "processor s": usage and usage.processor,
        "peak GB": usage and usage.peak / 1e9,
    }


def with_ratios(rows):
    """The rows with their time and memory over those of the first method on the same frame."""
    first = {(row["side"], row["steps"]): row for row in rows if row["what"] == rows[0]["what"]}
    steps = min((steps for _, steps in first if steps), default=None)
    for row in rows:
        own = first.get((row["side"], row["steps"] or steps))
        remark = row.pop("remark")
        for name, column in (("time", "seconds"), ("memory", "peak GB")):
            known = own and row[column] and own[column]
            row[f"{name} / {rows[0]['what']}"] = row[column] / own[column] if known else None
        row["remark"] = remark
    return rows


def agreement(folder):
    """Whether both engines of the rebuilt network give the same."""
    files = [folder / f"{engine}.fits" for engine in ("tensorflow", "onnxruntime-10")]
    if not all(path.exists() for path in files):
        return {}
    one, two = (fits.getdata(path) for path in files)
    row = {"largest": np.abs(one).max(), "largest difference": np.abs(one - two).max()}
    return {"TensorFlow and ONNX Runtime on the rebuilt network, the last frame": [row]}


def staged(frame, model, options, folder):
    """Seconds of each stage for each number of steps, and its share of the first."""
    timings = {
        steps: time_stages(frame, model, steps=steps, output_dir=folder / "out")
        for steps in options.steps
    }
    columns = {
        steps: timing.seconds | {OUTSIDE: timing.outside, "all": timing.whole}
        for steps, timing in timings.items()
    }
    return [
        {"stage": name} | {f"s, -s {steps}": columns[steps][name] for steps in columns}
        | {f"%, -s {steps}": 100 * columns[steps][name] / timings[steps].whole for steps in columns}
        for name in (*(stage.name for stage in STAGES), REST.name, OUTSIDE, "all")
    ]  # fmt: skip


def threaded(frame, side, options, folder):
    """Rows of each number of threads."""
    rows = []
    for threads in numbers(options.threads):
        tell(f"threads: {threads}")
        # A worker is given its number of threads; alone, the runtime looks at the whole machine.
        command = bgrem_command(options.model, "--workers", 1)(frame, folder, 1)
        usage = quickest(command, folder, options.repeat, threads)
        rows.append({"threads": threads, **figures(usage, side**2 / 1e6)})
        rows[-1]["speed-up"] = rows[0]["seconds"] / usage.seconds
    return rows


def batched(frame, options, folder):
    """Rows of a batch by each number of workers of one thread, and by one process with all cores."""
    images = folder / "images"
    images.mkdir()
    for number in range(options.batch):
        shutil.copyfile(frame, images / f"{number}.fits")
    area = options.batch * options.batch_side**2 / 1e6
    runs = [(f"workers of 1 thread: {count}", count, ["--workers", count])
            for count in numbers(options.workers)]  # fmt: skip
    rows = []
    for name, count, arguments in [*runs, ("one process, all cores", cores(), [])]:
        tell(name)
        command = bgrem_command(options.model, *arguments)(images, folder, 1)
        usage = quickest(command, folder, options.repeat, count)
        row = {"batch": name, "images/s": options.batch / usage.seconds}
        rows.append(row | figures(usage, area))
        rows[-1]["speed-up"] = rows[0]["seconds"] / usage.seconds
    return rows


def numbers(wanted):
    """Those of some numbers of threads or workers that the machine has cores for."""
    return [number for number in wanted if number <= cores()]


def report(options, tables, model, seconds, **facts):
    """Print the tables and write them, with what they were made by, and a plot of the first.

    Parameters
    ----------
    options : argparse.Namespace
    tables : dict of str to list of dict
    model : bgrem.inference.model.Model
    seconds : float
        That it all took.
    **facts
        Further entries of the JSON file.
    """
    for title, rows in tables.items():
        print(f"{title}\n{text_table(rows)}\n")
    print(f"{seconds:.0f} s, {cores()} cores, model {model.card.name} {model.sha256[:12]}")
    if not options.json:
        return
    made = {**made_with(model), "cores": cores()}
    print(write_json(options.json, {"tables": tables, **facts, **made, "seconds": seconds}))
    if "whole commands" in tables and find_spec("matplotlib"):
        print(picture(Path(options.json).with_suffix(".png"), tables["whole commands"]))


def tell(text):
    print(text, file=sys.stderr, flush=True)


def picture(path, rows):
    """Draw speed and memory against the side of the frame, one step, and write a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    least = min((row["steps"] for row in rows if row["steps"]), default=None)
    sides = sorted({row["side"] for row in rows})
    for name in dict.fromkeys(row["what"] for row in rows):
        own = [row for row in rows if row["what"] == name and row["seconds"]
               and row["steps"] in (None, least)]  # fmt: skip
        for axis, column in zip(axes, ("Mpix/s", "peak GB"), strict=True):
            axis.plot([row["side"] for row in own], [row[column] for row in own], "o-", label=name)
    for axis, column in zip(axes, ("Mpix/s", "peak GB"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="side, pixels", ylabel=column)
        axis.set_xticks(sides, labels=map(str, sides))
        axis.minorticks_off()
    axes[1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=90)
    return path


if __name__ == "__main__":
    main()
