"""What a background does to light wider than the sky box.

    python benchmarks/quality/wide_light.py --images FOLDER --json results/wide_light.json

*Wide light*: one galaxy is planted into each frame, a disc (Sersic index 1) or an elliptical (4) with a half-light
radius of 20 to 120 pixels and a surface brightness of 1, 3 or 10 sky rms, of a disc at its centre, of an elliptical
at the half-light radius. There are ten kinds of sky (`wide_skies.py`), with photon noise and a field of stars and
small galaxies. Eight frames of a kind have every profile and radius, 24 every brightness with them. The figures, in
the truth's isophote of 0.1 rms unless another place is named:

- `abs(flux - 1)`: data - background over the planted light, without the stars and the noise, which are known;
- `sources`: bgrem's sources with the planted light, less those without it, over the planted light;
- `under`: rms error of the background, in sky rms;
- `outside`: the same where the planted light is below 0.02 rms. A background that fits nothing loses here.

Each is the median of a kind's frames; then the mean of the kinds, and the worst kind.

*The same skies without the planted light*: rms error of the background.

*Real frames*: a disc or an elliptical of a central or half-light brightness of 3 rms is planted into each, with the
noise of its photons. The true background is unknown: the background that the method gives without the planted light
is taken for it. A background that fits nothing does not lose here. The table gives the median of the frames.

Methods: bgrem; SExtractor's mesh of 64 and 256 pixels, through SEP; photutils' Background2D with boxes of 128
pixels, objects masked; NoiseChisel with its defaults, where gnuastro is installed, and with looser settings where
it stops.
"""

import re
import shutil
import subprocess
import tempfile
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from zlib import crc32

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream
from wide_skies import KINDS, WideLight, draw_frame, plant

from bgrem.background import separate
from bgrem.detection.sextractor import clean_input, subtract_sky
from bgrem.io.reading import FitsError, as_planes, read_image

RADII = (20.0, 40.0, 80.0, 120.0)  # px
BRIGHTNESS = (1.0, 3.0, 10.0)  # sky rms
PROFILES = ("disc", "elliptical")
ISOPHOTE, OUTSIDE = 0.1, 0.02  # sky rms
LEAST_OUTSIDE = 0.05  # of the frame
FIGURES = ("abs(flux - 1)", "sources", "outside", "under")
#: Rms error of the background without planted light.
WITHOUT = "without"
MESHES = (64, 256)  # px, SExtractor's
BOX = 128  # px, photutils'
#: Threshold in sigma, least area and margin in pixels of the objects that are masked for photutils, and the
#: percentage of a box that may be masked.
OBJECTS, MASKED = (2.0, 10, 10), 90.0
NOISECHISEL = "astnoisechisel"
#: Its defaults, and looser settings for small and crowded frames, on which it stops.
NOISECHISEL_SETTINGS = (
    (), ("--tilesize=20,20", "--minskyfrac=0.3"),
    ("--tilesize=15,15", "--minskyfrac=0.2", "--interpnumngb=5", "--minnumfalse=20"),
)  # fmt: skip
REAL_BRIGHTNESS = 3.0
#: A real frame is this much wider than the half-light radius of the light that is planted.
REAL_WIDTH = 12.0
#: Names of files that hold no sky: weights and masks.
NO_SKY = re.compile("weight|mask|_oow_|_ood_", re.IGNORECASE)


def main(argv=None):
    """Run the command."""
    options = options_of(argv)
    began = perf_counter()
    model = model_of(options)
    methods = methods_of(options, model)
    frames, real = simulated(options, methods), on_images(options, methods)
    tables = {
        "wide light: mean of the kinds of sky, and the worst": summary(frames),
        "abs(flux - 1) by kind of sky": by_group(frames, "abs(flux - 1)"),
        "abs(flux - 1) by planted light": by_light(frames),
        "the same skies without wide light: rms error of the background": by_group(frames, WITHOUT),
    }
    if real:
        tables["real frames: median, and the worst"] = summary(real, middle=np.median)
        tables["real frames: abs(flux - 1)"] = by_group(real, "abs(flux - 1)", middle=np.median)
    finish(options, tables, model=model, began=began, frames=frames, real=real)


def options_of(argv):
    """The options of the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--side", type=int, default=1024, help="of a frame in pixels")
    parser.add_argument("--frames", type=int, default=8, help="of each kind of sky (default: 8)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND",
                        help=", ".join(KINDS))  # fmt: skip
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--box", type=int, nargs="+", default=[], metavar="N",
                        help="bgrem with these sky boxes, too")  # fmt: skip
    parser.add_argument("--images", nargs="+", default=[], metavar="PATH",
                        help="real frames, or folders of them")  # fmt: skip
    return parser.parse_args(argv)


# ---- methods: background, and sources or None, of an image in which bad pixels are NaN --------------------------


def methods_of(options, model):
    """The methods that are asked for and installed, by their names."""
    methods = {"bgrem": partial(with_bgrem, model=model)}
    methods |= {f"bgrem {box} px": partial(with_bgrem, model=model, box=box) for box in options.box}
    methods |= {f"sextractor {mesh} px": partial(with_mesh, mesh=mesh) for mesh in MESHES}
    methods |= {f"photutils {BOX} px": with_photutils, "noisechisel": with_noisechisel}
    if options.methods:
        if unknown := set(options.methods) - set(methods):
            raise SystemExit(f"no methods {sorted(unknown)}: {', '.join(methods)}")
        methods = {name: methods[name] for name in options.methods}
    missing = [("photutils", find_spec("photutils")), ("noisechisel", shutil.which(NOISECHISEL))]
    for program in (program for program, found in missing if not found):
        show_progress(options, f"{program}: left out, it is not installed")
        methods = {name: run for name, run in methods.items() if not name.startswith(program)}
    return methods


def with_bgrem(data, *, model, **changes):
    parts = separate(data, model=model, maps=(), **changes)
    return np.asarray(parts.background), np.asarray(parts.sources)


def with_mesh(data, *, mesh):
    return clean_input(data, None)[0] - subtract_sky(data, mesh=mesh).residual, None


def with_photutils(data):
    """A first background finds the objects, which are masked for the second."""
    from photutils.background import Background2D
    from photutils.segmentation import detect_sources
    from photutils.utils import circular_footprint

    bad = ~np.isfinite(data)
    box = min(BOX, *data.shape)
    first = Background2D(data, box, mask=bad, exclude_percentile=MASKED)
    sigma, area, margin = OBJECTS
    residual = data - first.background
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # photutils warns where it finds nothing
        objects = detect_sources(residual, sigma * first.background_rms, area, mask=bad)
    if objects is None:
        return first.background, None
    mask = bad | objects.make_source_mask(footprint=circular_footprint(margin))
    return Background2D(data, box, mask=mask, exclude_percentile=MASKED).background, None


def with_noisechisel(data):
    """The SKY of the first settings with which the program succeeds."""
    from astropy.io import fits

    image = data.astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        fits.writeto(Path(folder, "image.fits"), image)
        command = [NOISECHISEL, "image.fits", "--hdu=0", "--output=sky.fits", "--numthreads=1"]
        for settings in NOISECHISEL_SETTINGS:
            done = subprocess.run(
                [*command, "--quiet", *settings], cwd=folder, check=False, capture_output=True
            )
            if done.returncode == 0:
                sky = fits.getdata(Path(folder, "sky.fits"), "SKY")
                return sky.astype(np.float64), None
    raise ValueError(f"{NOISECHISEL} finds no sky")


# ---- figures ---------------------------------------------------------------------------------------------------


def figures_of(method, frame):
    """What a method does to a frame and to the light that is planted into it.

    Parameters
    ----------
    method : callable
        See `methods_of`.
    frame : wide_skies.WideFrame

    Returns
    -------
    dict of str to float
        `FIGURES` and `WITHOUT`, and the seconds for an image; NaN where there is nothing to measure.
    """
    began = perf_counter()
    (before, old), (background, new) = method(frame.before), method(frame.data)
    seconds = (perf_counter() - began) / 2
    sky = before if frame.sky is None else frame.sky
    error, good = background - sky, np.isfinite(frame.data)
    inside, outside = good & (frame.light >= ISOPHOTE), good & (frame.light < OUTSIDE)
    total = frame.light[inside].sum() or np.nan
    enough = outside.sum() >= LEAST_OUTSIDE * good.sum()
    values = (
        abs(error[inside].sum() / total),
        np.nan if new is None else (new - old)[inside].sum() / total,
        root_mean_square(error[outside]) if enough else np.nan,
        root_mean_square(error[inside]),
    )
    without = np.nan if frame.sky is None else root_mean_square((before - sky)[good])
    return {**dict(zip(FIGURES, map(float, values), strict=True)), WITHOUT: without,
            "seconds": seconds}  # fmt: skip


def root_mean_square(values):
    return np.sqrt(np.mean(np.square(values))) if values.size else np.nan


def records_of(options, methods, frame, **facts):
    """The figures of each method on a frame; NaN for a method that refuses it."""
    records = []
    for name, method in methods.items():
        try:
            figures = figures_of(method, frame)
        except ValueError as error:
            show_progress(options, f"{facts['group']}, {name}: {error}")
            figures = dict.fromkeys((*FIGURES, WITHOUT, "seconds"), np.nan)
        records.append({"method": name, **facts, **figures})
    return records


# ---- frames ----------------------------------------------------------------------------------------------------


def simulated(options, methods):
    """Records of the simulated frames."""
    records = []
    for kind in options.kinds:
        k = list(KINDS).index(kind)
        for i in range(options.frames):
            show_progress(options, f"{kind} {i + 1}/{options.frames}")
            wide = light_of(k, i)
            frame = draw_frame(kind, stream(options.seed, k, i), options.side, wide)
            records += records_of(options, methods, frame, group=kind, **vars(wide))
    return records


def light_of(k, i):
    """The wide galaxy of frame i of kind k: eight frames have every profile and radius, 24 every brightness, too."""
    pair = i // len(PROFILES)
    return WideLight(
        PROFILES[(i + pair) % len(PROFILES)], RADII[(pair + k) % len(RADII)],
        BRIGHTNESS[(i + k) % len(BRIGHTNESS)],
    )  # fmt: skip


def on_images(options, methods):
    """Records of the real frames."""
    records = []
    for path in images_in(options.images):
        show_progress(options, path.name)
        try:
            data = real_sky(path, options.side)
        except (FitsError, ValueError) as error:
            show_progress(options, f"{path.name}: left out: {error}")
            continue
        # The light does not depend on the other files.
        number = crc32(path.name.encode())
        radius = max(radius for radius in RADII if REAL_WIDTH * radius <= min(data.shape))
        wide = WideLight(PROFILES[number % len(PROFILES)], radius, REAL_BRIGHTNESS)
        frame = plant(data, wide, stream(options.seed, number))
        records += records_of(options, methods, frame, group=path.name, **vars(wide))
    return records


def images_in(paths):
    """The FITS files among some paths and in the folders among them, without weights and masks."""
    found = []
    for path in map(Path, paths):
        found += sorted(path.iterdir()) if path.is_dir() else [path]
    return [path for path in found if ".fit" in path.name and not NO_SKY.search(path.name)]


def real_sky(path, side):
    """The middle of an image in units of its sky rms, bad pixels NaN, at most `side` pixels wide."""
    data = as_planes(read_image(path).data)[0]
    data = data[tuple(slice((size - min(size, side)) // 2, (size + side) // 2)
                      for size in data.shape)]  # fmt: skip
    data = np.where(np.isfinite(data), data, np.nan).astype(np.float64)
    if min(data.shape) < REAL_WIDTH * min(RADII):
        raise ValueError("too small")
    if np.subtract(*np.nanpercentile(data, [75, 25])) == 0:
        raise ValueError("no noise")
    return data / subtract_sky(data).global_rms


# ---- tables ----------------------------------------------------------------------------------------------------


def unique(records, key):
    """The values of a key, in the order in which they appear."""
    return list(dict.fromkeys(record[key] for record in records))


def known(values):
    """Those that are finite."""
    return [value for value in values if np.isfinite(value)]


def middle_of(values, middle=np.median):
    """The median (or mean) of the finite values, NaN if there is none."""
    values = known(values)
    return float(middle(values)) if values else np.nan


def medians(records, method, figure):
    """The median of the frames of each group: group -> value."""
    mine = [record for record in records if record["method"] == method]
    return {
        group: middle_of(record[figure] for record in mine if record["group"] == group)
        for group in unique(records, "group")
    }


def summary(records, middle=np.mean):
    """A row for each method: the mean (or median) of the groups and the worst group."""
    rows = []
    for method in unique(records, "method"):
        mine = [record for record in records if record["method"] == method]
        row = {"method": method}
        for figure in FIGURES:
            values = medians(records, method, figure)
            row |= {
                figure: middle_of(values.values(), middle),
                f"worst {figure}": worst(values, figure),
            }
        row["frames"] = len(known(record["under"] for record in mine))
        rows.append({**row, "seconds": middle_of(record["seconds"] for record in mine)})
    return rows


def worst(values, figure):
    """The group that is farthest from the right value, and its value, as text."""
    right = 1.0 if figure == "sources" else 0.0
    values = {group: value for group, value in values.items() if np.isfinite(value)}
    if not values:
        return "-"
    group = max(values, key=lambda name: abs(values[name] - right))
    return f"{values[group]:.3g} {group[:20]}"


def by_group(records, figure, middle=np.mean):
    """A row for each group with the median of each method, and their mean (or median)."""
    methods = unique(records, "method")
    columns = {method: medians(records, method, figure) for method in methods}
    rows = [
        {"sky": group, **{method: columns[method][group] for method in methods}}
        for group in unique(records, "group")
    ]
    last = {method: middle_of(columns[method].values(), middle) for method in methods}
    return [*rows, {"sky": middle.__name__, **last}]


def by_light(records):
    """A row for each profile, radius and brightness: the median of each method over all kinds of sky."""
    rows = []
    for key, unit in (("profile", ""), ("radius", " px"), ("brightness", " rms")):
        for value in sorted(unique(records, key)):
            row = {"light": f"{key} {value}" if not unit else f"{key} {value:g}{unit}"}
            for method in unique(records, "method"):
                same = [r for r in records if r[key] == value and r["method"] == method]
                row |= {method: middle_of(r["abs(flux - 1)"] for r in same)}
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
