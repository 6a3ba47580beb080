"""The command ``bgrem-simulate``: draw images with known truth, and compare them with real ones."""

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
    number_from,
    positive_number,
    run_command,
    sentence,
)
from bgrem.storage.names import visible_text

EXAMPLES = """\
examples:
  bgrem-simulate                                   scene.fits: a MeerLICHT cut-out, 256 x 256
  bgrem-simulate --shape 1024 --fwhm 3.2 --seed 7 --count 10 --output-dir frames
  bgrem-simulate --scene cluster.toml --set stars=20000 --set full_well=0
  bgrem-simulate --scene scene.fits                draws the scene of a file again
  bgrem-simulate --training-sky --count 20         random scenes, as in the training
  bgrem-simulate --realism image.fits              compares a frame with the training
  bgrem-simulate --scene fermi --set bands=3       a counts map with Poisson noise, here a cube

Each file contains DATA, SOURCES, BACKGROUND, NOISE (the last three add up to DATA), MASK and the
table TRUTH. cluster.toml contains fields of a scene, one per line (stars = 5000.0); --list-fields
prints all fields.

Counts maps: the scenes counts and fermi (gamma rays), chandra (X-rays), random-counts (as in the
training), or a TOML file with the line kind = "counts". DATA are whole numbers, and the files
contain EXPOSURE, TEMPLATE and PSF instead of MASK, and EBOUNDS if there are several bands.
--list-fields --scene counts prints their fields.

Exit code: 0 done, 1 failed (or, with --realism, a frame differs from the simulations), 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, see `~bgrem.cli.arguments.run_command`."""
    return run_command(make_parser(), _run, argv, extra="train")


def _run(options: argparse.Namespace, parser: Parser) -> int:
    if options.training_sky and (options.scene or options.set or options.fwhm):
        parser.error("--training-sky draws every field at random: no --scene, --fwhm or --set")
    if options.realism and (options.scene or options.set or options.fwhm):
        parser.error("--realism compares with the training sky: no --scene, --fwhm or --set")
    if not options.name or "/" in options.name:
        parser.error(f"--name {options.name!r} is no file name (a folder goes to --output-dir)")
    counts = _is_counts(options)
    if counts and (options.integers or options.compress):
        parser.error("counts maps are whole numbers, not compressed: no --integers or --compress")
    if options.scene == "random-counts" and (options.set or options.fwhm is not None):
        parser.error("random-counts draws every field at random: no --fwhm or --set")
    if options.list_fields:
        return _list_fields(counts)
    if counts:
        return _write_counts(options)
    return _compare(options) if options.realism else _write(options)


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        "bgrem-simulate",
        "Draw simulated images of which the truth is known, as FITS files.",
        EXAMPLES,
        usage="bgrem-simulate [--scene FILE | --training-sky] [options]\n"
        "       bgrem-simulate --realism IMG [IMG ...] [--count N] [--seed SEED]",
        add_help=False,
    )
    _add_scene_options(parser.add_argument_group("scene"))
    _add_output_options(parser.add_argument_group("output"))
    group = parser.add_argument_group("realism")
    group.add_argument(
        "--realism", metavar="IMG", type=file_name, nargs="+",
        help="write no files; list the statistics of the blank sky of these FITS images that lie outside "
        "the central 96 %% of N scenes of the training sky (default: 200)",
    )  # fmt: skip
    other = parser.add_argument_group("other")
    other.add_argument("--list-fields", action="store_true", help="print the default scene as TOML")
    add_common_options(other, quiet="do not print a line per file or a progress bar")
    other.add_argument("--help", action="help", help="print this help")
    return parser


def _add_scene_options(group: argparse._ArgumentGroup) -> None:
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "--scene", metavar="FILE", type=file_name,
        help="description of the scene: a TOML file, a FITS file that this command wrote, or, for counts maps, "
        "counts, fermi, chandra or random-counts (default: a MeerLICHT exposure)",
    )  # fmt: skip
    source.add_argument(
        "--training-sky", action="store_true", help="draw random scenes, as in the training"
    )
    group.add_argument(
        "--shape",
        metavar="NY[,NX]",
        type=_shape,
        help="size in pixels (default: that of the scene, 256)",
    )
    group.add_argument(
        "--fwhm",
        metavar="PIXELS",
        type=number_from(0),
        help="FWHM of the PSF (default: that of the scene, 4.5)",
    )
    group.add_argument(
        "--set", metavar="FIELD=VALUE", type=_field, action="append", default=[],
        help="value of another field of the scene; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--seed",
        metavar="SEED",
        type=integer_from(0),
        help="seed of the random numbers (default: 0)",
    )
    group.add_argument(
        "--count", metavar="N", type=integer_from(1), help="number of scenes (default: 1)"
    )
    group.add_argument(
        "--first", metavar="NUMBER", type=integer_from(0),
        help="number of the first scene; a scene depends only on SEED and its number (default: 0)",
    )  # fmt: skip


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output-dir",
        metavar="DIR",
        type=file_name,
        default=".",
        help="folder of the files (default: the current one)",
    )
    group.add_argument(
        "--name", metavar="NAME", default="scene",
        help="the file is NAME.fits; several are NAME_0000.fits, NAME_0001.fits ... (default: scene)",
    )  # fmt: skip
    group.add_argument(
        "--compress", action="store_true", help="write .fits.fz with lossless compression"
    )
    group.add_argument(
        "--integers", action="store_true", help="round the data to whole adu, as a camera does"
    )
    group.add_argument(
        "--truth-apart", action="store_true", help="write all but the data to NAME_truth.fits"
    )
    group.add_argument(
        "--pixel-scale", metavar="ARCSEC", type=positive_number,
        help="pixel scale in the header, in arcseconds per pixel (default: 0.56; of counts maps 360, chandra 0.492)",
    )  # fmt: skip
    group.add_argument("--overwrite", action="store_true", help="replace existing files")


def _shape(text: str) -> tuple[int, int]:
    sides = [integer_from(1)(side) for side in text.split(",")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is neither NY nor NY,NX")
    return sides[0], sides[-1]


def _field(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    if name.strip() == "population":
        return name.strip(), value
    if "," in value:
        return name.strip(), [integer_from(0)(item) for item in value.split(",")]
    return name.strip(), number_from()(value)


def _write(options: argparse.Namespace) -> int:
    # Imported here, so that a usage error does not wait for GalSim and astropy.
    from bgrem.simulate.scene_files import PIXEL_SCALE, draw_numbered, whole_numbers, write_sky

    scene, seed, first = _scene(options)
    count = options.count or 1
    for number in range(first, first + count):
        sky = draw_numbered(scene, seed=seed, number=number, shape=options.shape or (256, 256))
        if options.integers:
            changes = whole_numbers(sky.scene)
            whole = _changed(sky.scene, changes)
            sky = draw_numbered(whole, seed=seed, number=number)
        path, truth = _paths(options, number if count > 1 else None)
        write_sky(
            path, sky, truth_path=truth, overwrite=options.overwrite,
            seed=seed, number=number, scale=options.pixel_scale or PIXEL_SCALE, integers=options.integers,
        )  # fmt: skip
        if not options.quiet:
            print(visible_text(_line(path, truth, sky)), flush=True)
    return 0


def _scene(options: argparse.Namespace):
    """The scene (None for random ones), the seed and the first number."""
    from bgrem.simulate.scene_files import load_scene, make_scene, read_scene

    seed, first = 0, 0
    changes = dict(options.set)
    for name in ("shape", "fwhm"):
        if getattr(options, name):
            changes[name] = getattr(options, name)
    if options.training_sky:
        scene = None
    elif options.scene is None:
        scene = make_scene(changes, "the scene")
    else:
        scene = load_scene(options.scene, **changes)
        if Path(options.scene).suffix.lower() != ".toml":
            _, seed, first = read_scene(options.scene)
    if options.seed is not None:
        seed = options.seed
    if options.first is not None:
        first = options.first
    return scene, seed or 0, first or 0


def _changed(scene, changes):
    from dataclasses import replace

    return replace(scene, **changes)


def _paths(options: argparse.Namespace, number: int | None) -> tuple[Path, Path | None]:
    folder = Path(options.output_dir)
    stem = options.name if number is None else f"{options.name}_{number:04d}"
    suffix = ".fits.fz" if options.compress else ".fits"
    truth = folder / f"{stem}_truth{suffix}" if options.truth_apart else None
    return folder / f"{stem}{suffix}", truth


def _line(path: Path, truth: Path | None, sky) -> str:
    counted = int((sky.truth["snr"] >= 2).sum())
    ny, nx = sky.data.shape
    names = f"{path} {truth}" if truth else str(path)
    return f"{names}: {nx} x {ny} px, FWHM {sky.scene.fwhm:.2f} px, {counted} sources of S/N >= 2"


def _is_counts(options: argparse.Namespace) -> bool:
    if options.scene is None:
        return False
    from bgrem.counts_scenes.counts_files import is_counts_scene

    return is_counts_scene(options.scene)


def _write_counts(options: argparse.Namespace) -> int:
    from bgrem.counts_scenes.counts_files import draw_numbered_counts, scene_pixels, write_counts

    scene, seed, first = _counts_scene(options)
    pixels = scene_pixels(options.scene)
    if options.pixel_scale:
        pixels = (options.pixel_scale, *pixels[1:])
    count = options.count or 1
    for number in range(first, first + count):
        sky = draw_numbered_counts(scene, seed=seed, number=number, shape=options.shape)
        path, truth = _paths(options, number if count > 1 else None)
        write_counts(
            path, sky, truth_path=truth, overwrite=options.overwrite, seed=seed, number=number, pixels=pixels
        )  # fmt: skip
        if not options.quiet:
            print(visible_text(_counts_line(path, truth, sky)), flush=True)
    return 0


def _counts_scene(options: argparse.Namespace):
    """The scene of counts (None for random ones), the seed and the first number."""
    from bgrem.counts_scenes.counts_files import RANDOM_COUNTS, counts_scene, read_counts_scene

    seed = first = None
    if options.scene == RANDOM_COUNTS:
        scene = None
    else:
        changes = dict(options.set)
        for name in ("shape", "fwhm"):
            if getattr(options, name) is not None:
                changes[name] = getattr(options, name)
        scene = counts_scene(options.scene, **changes)
        if Path(options.scene).is_file() and Path(options.scene).suffix.lower() != ".toml":
            _, seed, first = read_counts_scene(options.scene)
    if options.seed is not None:
        seed = options.seed
    if options.first is not None:
        first = options.first
    return scene, seed or 0, first or 0


def _counts_line(path: Path, truth: Path | None, sky) -> str:
    bands, ny, nx = sky.counts.shape
    size = f"{nx} x {ny} px" if bands == 1 else f"{nx} x {ny} px, {bands} bands"
    counted = int((sky.truth["snr"] >= 2).sum())
    names = f"{path} {truth}" if truth else str(path)
    return f"{names}: {size}, {sky.counts.sum()} counts, {counted} sources of S/N >= 2"


def _list_fields(counts: bool) -> int:
    from dataclasses import asdict

    from bgrem.counts_scenes.poisson_scene import CountsScene
    from bgrem.simulate.scene import Scene

    if counts:
        print('kind = "counts"')
    for name, value in asdict(CountsScene() if counts else Scene()).items():
        if isinstance(value, str):
            value = f'"{value}"'
        print(f"{name} = {list(value) if isinstance(value, tuple) else value}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from bgrem.io.reading import as_planes, read_image
    from bgrem.simulate.realism import blank_sky, judge, report, simulated_skies

    # The frames are read first: a misspelt name is reported before the simulations.
    frames = {}
    failed = False
    for path in options.realism:
        try:
            frames[path] = blank_sky(as_planes(read_image(path).data)[0])
        except (OSError, ValueError) as error:
            message = sentence(error)
            complain("bgrem-simulate", message if path in message else f"{path}: {message}")
            failed = True
    frames = {path: frame for path, frame in frames.items() if _has_sky(path, frame)}
    if not frames:
        return 1
    count = options.count or 200
    simulated = list(
        _counted(
            simulated_skies(count, seed=options.seed or 0, shape=options.shape or (512, 512)),
            count,
            options.quiet,
        )
    )
    verdicts = {visible_text(path): judge(frame, simulated) for path, frame in frames.items()}
    print(report(verdicts))
    unlike = any(verdict.outside for verdict in verdicts.values())
    return 1 if failed or unlike else 0


def _has_sky(path: str, frame) -> bool:
    if len(frame.table) == 0:
        complain("bgrem-simulate", f"{path}: has no blank sky and is left out")
    return len(frame.table) > 0


def _counted(scenes, count: int, quiet: bool):
    """The scenes, with a progress bar on a terminal."""
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty()
    return tqdm(scenes, total=count, desc="simulated scenes", leave=False, disable=hidden)


if __name__ == "__main__":
    sys.exit(main())
