"""The report card: every measurement that docs/results.rst shows, printed and written.

    python benchmarks/results.py --pairs FOLDER --images FOLDER
    python benchmarks/results.py flux blank                      only these
    python benchmarks/results.py --quick                         all of them small, to try it
    python benchmarks/results.py level wide_light --other CHECKOUT        beside an older checkout
    python benchmarks/results.py versions --before OLD.onnx --pairs FOLDER        beside an older model
    python benchmarks/results.py counts_real --counts FOLDER     real counts maps

Each section is a command of its own, whose text goes to docs/results/NAME.txt and whose plots to
docs/results/NAME*.png. A section that is there, by the same command and the same model, is shown and
not measured again (--force measures it). Pairs are NAME_single.fits* and NAME_deep.fits*, images any
FITS files; without a folder its sections are left out. With --quick the folder is results/quick.
--other is a checkout of an older bgrem, which "level" and "wide_light" measure, too; --before is an older model,
without which "versions" is left out. --counts is a folder of counts maps (benchmarks/quality/counts_fields.py).
Nothing else should run beside "speed", "speed_survey", "suite", "survey", "sky" and "floor"; for "suite" and "survey"
$TENSORFLOW names an interpreter with TensorFlow (benchmarks/speed).
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bgrem.counts.counts_model import has_counts_model, load_counts_model
from bgrem.inference.model import load_model

ROOT = Path(__file__).resolve().parents[1]
EVALUATE = ("-m", "bgrem.cli.evaluate")
OTHERS = ("--program", "--others")
#: What is shown for folders of the machine.
PAIRS, IMAGES, OTHER, BEFORE, COUNTS = "PAIRS", "IMAGES", "OTHER", "BEFORE", "COUNTS"


@dataclass(frozen=True)
class Section:
    """A command of the report card.

    Attributes
    ----------
    command : tuple of str
        Arguments of the Python interpreter.
    quick : tuple of str
        What makes it small; a later option replaces an earlier one.
    written : str
        "json": it takes the name of a JSON file; "folder": a folder; "": it writes nothing.
    folder : str
        PAIRS, IMAGES or COUNTS where it needs one.
    flag : str
        The option before the images of a section that does without them, too.
    other : bool
        Whether it measures another checkout, too, where one is given.
    before : bool
        Whether it needs an older model.
    counts : bool
        Whether it measures the model of counts maps, not the one that is given.
    """

    command: tuple[str, ...]
    quick: tuple[str, ...] = ()
    written: str = "json"
    folder: str = ""
    flag: str = ""
    other: bool = False
    before: bool = False
    counts: bool = False


def path_of(name):
    return f"benchmarks/path/{name}.py"


def quality_of(name):
    return f"benchmarks/quality/{name}.py"


def speed_of(name):
    return f"benchmarks/speed/{name}.py"


def simulated(scenes):
    return (*EVALUATE, "--scenes", f"benchmarks/quality/{scenes}.toml", "--quiet", "--simulate")


SECTIONS = {
    "meerlicht": Section((*simulated("meerlicht"), "8", *OTHERS), ("--simulate", "1"), "folder"),
    "control": Section((*simulated("control"), "8"), ("--simulate", "1"), "folder"),
    "pairs": Section((*EVALUATE, "--quiet", *OTHERS), (), "folder", PAIRS),
    "versions": Section(
        (quality_of("versions"), "--quiet"), ("--frames", "1", "--side", "256"), folder=PAIRS,
        before=True,
    ),
    "significance": Section(
        (quality_of("significance"), "--quiet"), ("--scenes", "2", "--side", "384")
    ),
    "fine_tuning": Section(
        (quality_of("fine_tuning"), "--quiet"),
        ("--minutes", "0.1", "--models", "results/quick/fine_tuning"), folder=PAIRS,
    ),
    "camera_training": Section(
        (quality_of("camera_training"), "--quiet"),
        ("--side", "384", "--seeing", "2.4", "--frames", "2", "--minutes", "0.1",
         "--models", "results/quick/camera_training"),
    ),
    "grid": Section(
        (quality_of("grid"), "--quiet"), ("--side", "320", "--fwhm", "3", "--sky", "white", "empty"),
        "folder",
    ),
    "instruments": Section(
        (quality_of("instruments"), "--quiet"), ("--side", "256"), folder=IMAGES
    ),
    "recipes": Section((quality_of("recipes"), "--quiet"), ("--frames", "1")),
    "catalogue": Section(
        (quality_of("catalogue"), "--quiet"), ("--frames", "1", "--side", "384", "--kinds", "FWHM 2.5")
    ),
    "frame_calibration": Section(
        (quality_of("frame_calibration"), "--quiet"), ("--frames", "1", "--side", "384")
    ),
    "flux": Section(
        (quality_of("flux"), "--quiet"),
        ("--frames", "1", "--side", "512", "--galaxy-frames", "1", "--profile-side", "768"),
    ),
    "holes": Section((quality_of("holes"), "--quiet"), ("--side", "256", "--grid", "2")),
    "sharp_stars": Section((quality_of("sharp_stars"), "--quiet"), ("--widths", "1.5")),
    "sharp_cameras": Section(
        (quality_of("sharp_cameras"), "--quiet"), ("--frames", "1", "--side", "384")
    ),
    "wide_seeing": Section(
        (quality_of("wide_seeing"), "--quiet"), ("--frames", "1", "--side", "384")
    ),
    "light_curve": Section(
        (quality_of("light_curve"), "--quiet"), ("--exposures", "3", "--side", "320")
    ),
    "shapes": Section((quality_of("shapes"), "--quiet"), ("--frames", "1")),
    "streaks": Section((quality_of("streaks"), "--quiet"), ("--frames", "1")),
    "mosaics": Section((quality_of("mosaics"), "--quiet"), ("--side", "120")),
    "few_counts": Section((quality_of("few_counts"), "--quiet"), ("--side", "128", "--stars", "5")),
    "counts": Section(
        (quality_of("counts"), "--quiet"),
        ("--maps", "1", "--kinds", "fermi", "flux", "--levels", "1", "--blank", "4"), counts=True,
    ),
    "counts_real": Section(
        (quality_of("counts_real"), "--quiet"),
        ("--splits", "2", "--only", "centre", "Chandra"), folder=COUNTS, counts=True,
    ),
    "level": Section(
        (quality_of("level"), "--quiet"),
        ("--frames", "1", "--training-frames", "2", "--side", "384"), other=True,
    ),
    "background_error": Section(
        (quality_of("background_error"), "--quiet"), ("--frames", "2", "--sides", "384")
    ),
    "blank": Section(
        (quality_of("blank"), "--quiet"), ("--mpix", "1", "--side", "512", "--star-frames", "3")
    ),
    "calibration": Section((quality_of("calibration"), "--quiet"), ("--frames", "1")),
    "artefacts": Section(
        (quality_of("artefacts"), "--quiet"), ("--frames", "1", "--side", "512")
    ),
    "camera_defects": Section(
        (quality_of("camera_defects"), "--quiet"),
        ("--side", "256", "--seeing", "2.2", "--detected", "1"),
    ),
    "wide_light": Section(
        (quality_of("wide_light"), "--quiet"),
        ("--side", "512", "--frames", "1", "--kinds", "flat", "slope"), folder=IMAGES, flag="--images",
        other=True,
    ),
    "kept_light": Section((quality_of("kept_light"), "--quiet"), folder=IMAGES),
    "steps": Section((path_of("steps"),), ("--frames", "1", "--side", "512"), "folder"),
    "identity": Section((path_of("identity"),), (), "folder", IMAGES, "--images"),
    "equivariance": Section((path_of("equivariance"),), ("--side", "384"), "folder"),
    "seams": Section((path_of("seams"),), written="folder"),
    "speed": Section((path_of("speed"),), ("--side", "1024", "--repeat", "1"), "folder"),
    "speed_survey": Section(
        (path_of("speed"), "--side", "10560", "--steps", "1"),
        ("--side", "1024", "--repeat", "1"), "folder",
    ),
    "suite": Section((speed_of("suite"),), ("--quick",)),
    "survey": Section(
        (speed_of("suite"), "--sides", "10560", "--steps", "1", "--stage-side", "10560",
         "--methods", "bgrem", "published", "sextractor", "--tables", "methods", "stages", "workers"),
        ("--sides", "512", "--stage-side", "512", "--repeat", "1"),
    ),
    "sky": Section((speed_of("sky"),), ("--sides", "512", "--repeat", "1")),
    "floor": Section(
        (speed_of("floor"),), ("--side", "1024", "--matrix", "1024", "--copy", "100000000")
    ),
    "memory": Section(
        (speed_of("memory"), "--side", "40000", "--memory", "2GB"),
        ("--side", "1500", "--memory", "1.2GB"), "",
    ),
    "faults": Section((speed_of("faults"),), ("--runs", "1", "--frames", "4")),
}  # fmt: skip


def main(argv=None):
    """Measure, print and write; 1 where a section failed."""
    options = make_parser().parse_args(argv)
    folder = Path(options.output_dir or ("results/quick" if options.quick else "docs/results"))
    folder = ROOT / folder
    folder.mkdir(parents=True, exist_ok=True)
    data = ROOT / "results" / ("quick/data" if options.quick else "")
    data.mkdir(parents=True, exist_ok=True)
    folders = {
        PAIRS: options.pairs, IMAGES: options.images, OTHER: options.other, BEFORE: options.before,
        COUNTS: options.counts,
    }  # fmt: skip
    model = load_model(options.model)
    usual = f"# model {model.card.name} {model.sha256[:12]}"
    failed = []
    for name in options.sections or SECTIONS:
        section = SECTIONS[name]
        if section.folder and not section.flag and not files_of(section, folders):
            print(f"{name}: left out, nothing in --{section.folder.lower()}\n", file=sys.stderr)
            continue
        if section.before and not options.before:
            print(f"{name}: left out, no --before\n", file=sys.stderr)
            continue
        if section.counts and not has_counts_model():
            print(f"{name}: left out, no model of counts maps\n", file=sys.stderr)
            continue
        command = command_of(name, section, folders, data, options)
        stamp = counts_stamp() if section.counts else usual
        head = f"$ {shown(command, folders)}\n{stamp}\n"
        path = folder / f"{name}.txt"
        if options.force or not is_there(path, head):
            print(name, file=sys.stderr, flush=True)
            if not measure(command, head, path, folders):
                failed.append(name)
                continue
            take_plots(name, section, folder, data, folders)
        print(f"== {name}\n{path.read_text(encoding='utf-8')}", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def counts_stamp():
    """The line that names the model of counts maps."""
    model = load_counts_model()
    return f"# model {model.name} {model.sha256[:12]}"


def make_parser():
    """The options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    # Not `choices`: an empty list would have to be one of them.
    parser.add_argument("sections", nargs="*", type=known_section, help=", ".join(SECTIONS))
    parser.add_argument("--pairs", default=os.environ.get(PAIRS), help="folder (or $PAIRS)")
    parser.add_argument("--images", default=os.environ.get(IMAGES), help="folder (or $IMAGES)")
    parser.add_argument("--other", default=os.environ.get(OTHER), help="checkout (or $OTHER)")
    parser.add_argument("--counts", default=os.environ.get(COUNTS), help="folder (or $COUNTS)")
    parser.add_argument("--before", default=os.environ.get(BEFORE), help="older model (or $BEFORE)")
    parser.add_argument("--model", default="optical", help="name, or path of an .onnx file")
    parser.add_argument("--quick", action="store_true", help="small, to try it")
    parser.add_argument("--force", action="store_true", help="measure what is there, too")
    parser.add_argument("--output-dir", help="folder of texts and plots (default: docs/results)")
    return parser


def known_section(name):
    """The name, if it is that of a section."""
    if name not in SECTIONS:
        raise argparse.ArgumentTypeError(f"no section {name!r}: {', '.join(SECTIONS)}")
    return name


def command_of(name, section, folders, data, options):
    """The arguments of the interpreter for a section."""
    command = list(section.command)
    if options.model != "optical" and not section.counts:
        command += ["--model", options.model]
    if options.quick:
        command += section.quick
    if section.written == "json":
        command += ["--json", str(data / f"{name}.json")]
    elif section.written == "folder":
        command += ["--output-dir", str(data)]
    if section.other and folders[OTHER]:
        command += ["--other", str(Path(folders[OTHER]).resolve())]
    if section.before:
        command += ["--before", str(Path(folders[BEFORE]).resolve())]
    files = files_of(section, folders)
    if section.folder == PAIRS:
        for single, deep in files:
            command += ["--pair", str(single), str(deep)]
    elif section.folder == COUNTS:
        command += ["--maps", str(Path(folders[COUNTS]).resolve())]
    elif files:
        command += filter(None, (section.flag, *map(str, files)))
    return command


def files_of(section, folders):
    """The pairs or images of a section; none where no folder is given."""
    folder = folders.get(section.folder)
    if not folder:
        return []
    return pairs_of(folder) if section.folder == PAIRS else images_of(folder)


def pairs_of(folder):
    """Each exposure of a folder with its deep stack."""
    singles = sorted(Path(folder).glob("*_single.fits*"))
    return [(single, single.with_name(single.name.replace("_single", "_deep")))
            for single in singles]  # fmt: skip


def images_of(folder):
    """The FITS files of a folder."""
    return sorted(path for path in Path(folder).iterdir() if ".fit" in path.name)


def shown(command, folders):
    """A command as a reader would type it: no folder of this machine, not every image."""
    words = ["bgrem-evaluate" if word == EVALUATE[1] else word for word in command]
    words = ["python", *words] if words[0] != EVALUATE[0] else words[1:]
    text = " ".join(words)
    if folders[IMAGES]:
        files = " ".join(map(str, images_of(folders[IMAGES])))
        text = text.replace(files, f"{IMAGES}/*") if files else text
    return anonymous(text, folders)


def anonymous(text, folders):
    """A text without the paths of this machine."""
    for name, folder in folders.items():
        if folder:
            for path in (Path(folder).resolve(), Path(folder)):
                text = text.replace(str(path), name)
    return text.replace(f"{ROOT}/", "")


def is_there(path, head):
    """Whether a text was made by this command and this model."""
    return path.exists() and path.read_text(encoding="utf-8").startswith(head)


def measure(command, head, path, folders):
    """Run a section's command and write its text; whether it succeeded."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    }
    done = subprocess.run(
        [sys.executable, *command],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print("\n".join(done.stderr.splitlines()[-5:]), file=sys.stderr)
        return False
    # A half-written text would pass for a measured one.
    part = path.with_suffix(".part")
    part.write_text(head + anonymous(done.stdout, folders), encoding="utf-8")
    part.replace(path)
    return True


def take_plots(name, section, folder, data, folders):
    """Copy the plots that a section's command wrote."""
    sources = {data / f"{name}.png": folder / f"{name}.png"}
    if section.folder == PAIRS and section.written == "folder":
        stems = [single.name.split(".")[0] for single, _ in pairs_of(folders[PAIRS])]
        sources = {data / f"{stem}.png": folder / f"{name}_{stem}.png" for stem in stems}
    for source, target in sources.items():
        if source.exists():
            shutil.copyfile(source, target)


if __name__ == "__main__":
    sys.exit(main())
