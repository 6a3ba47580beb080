"""What a background does to light wider than the sky box.

    python benchmarks/quality/wide_light.py --images FOLDER --json results/wide_light.json
    python benchmarks/quality/wide_light.py --other CHECKOUT         an older checkout, too

*Wide light*: one galaxy is planted into each frame, a disc (Sersic index 1) or an elliptical (4) with a half-light
radius of 20 to 120 pixels and a surface brightness of 1, 3 or 10 sky rms, of a disc at its centre, of an elliptical
at the half-light radius. There are ten kinds of sky (`wide_skies.py`), with photon noise and a field of stars and
small galaxies. Eight frames of a kind have every profile and radius, 24 every brightness with them. The figures, in
the truth's isophote of 0.1 rms unless another place is named:

- `abs(flux - 1)`: data - background over the planted light, without the stars and the noise, which are known;
- `sources`: bgrem's sources with the planted light, less those without it, over the planted light;
- `under`: rms error of the background, in sky rms;
- `outside`: the same where the planted light is below 0.02 rms. A background that fits nothing loses here.

Each is the median of a kind's frames; then the mean of the kinds, and the worst kind. Fringes have a period of 60
pixels: nothing that averages the sky follows them. Means are therefore given without them, too.

*--extended background* puts wide light into the background: `sources` is the part of it that stays in the sources,
`points` the sources in pixels in which stars and small galaxies have at least 5 rms and the planted light at most a
fifth of theirs, over the light of the stars; of the default less the planted light. SIGNIF must not change.

*The same skies without the planted light*: rms error of the background. `least` is that of an average of the sky of
which all light is known (`least_error.py`).

*Real frames*: a disc or an elliptical of a central or half-light brightness of 3 rms is planted into each, with the
noise of its photons. The true background is unknown: the background that the method gives without the planted light
is taken for it. A background that fits nothing does not lose here. The table gives the median of the frames.

Methods: bgrem, with its network and with `--sky mesh`; SExtractor's mesh of 64 and 256 pixels, through SEP;
photutils' Background2D with boxes of 128 pixels, objects masked; NoiseChisel with its defaults, where gnuastro is
installed, and with looser settings where it stops; with `--other`, the bgrem of another checkout.
"""

import re
from pathlib import Path
from time import perf_counter
from zlib import crc32

import numpy as np
import wide_tables as tables_of
from least_error import least_error
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream
from wide_methods import BACKGROUND, Found, methods_of
from wide_skies import ELECTRONS, KINDS, WideLight, draw_frame, plant
from wide_tables import FIGURES, POINTS, SIGNIF

from bgrem.detection.sextractor import subtract_sky
from bgrem.io.reading import FitsError, as_planes, read_image

RADII = (20.0, 40.0, 80.0, 120.0)  # px
BRIGHTNESS = (1.0, 3.0, 10.0)  # sky rms
PROFILES = ("disc", "elliptical")
ISOPHOTE, OUTSIDE = 0.1, 0.02  # sky rms
LEAST_OUTSIDE = 0.05  # of the frame
#: Sky rms of stars that count, and the planted light over theirs up to which they do.
STAR_LIGHT, UNDER_STARS = 5.0, 0.2
#: Rms error of the background without planted light; and that of the best average.
WITHOUT, LEAST = "without", "least"
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
    tables = tables_of_frames(frames, list(methods))
    if real:
        seen = without(real, BACKGROUND)
        tables["real frames: median, and the worst"] = tables_of.summary(seen, middle=np.median)
        tables["real frames: abs(flux - 1)"] = tables_of.by_group(
            seen, "abs(flux - 1)", middle=np.median
        )
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
    parser.add_argument("--other", metavar="CHECKOUT", help="another checkout of bgrem, too")
    parser.add_argument("--images", nargs="+", default=[], metavar="PATH",
                        help="real frames, or folders of them")  # fmt: skip
    return parser.parse_args(argv)


def tables_of_frames(frames, methods):
    """Tables of the simulated frames: title -> rows."""
    wide = without(frames, LEAST, BACKGROUND)
    plain = tables_of.without_fringes(wide)
    tables = {}
    if "bgrem" in methods:
        tables["bgrem and its bars"] = tables_of.bars(wide, "bgrem")
    tables["wide light: mean of the kinds of sky, and the worst"] = tables_of.summary(wide)
    if plain and len(plain) < len(wide):
        tables["wide light: the same without fringes"] = tables_of.summary(plain)
    tables["sources over the planted light, by brightness"] = tables_of.by_brightness(wide)
    for figure in ("abs(flux - 1)", "outside", "under"):
        tables[f"{figure} by kind of sky"] = tables_of.by_group(wide, figure)
    tables["abs(flux - 1) by planted light"] = tables_of.by_light(wide)
    if {"bgrem", BACKGROUND} <= set(methods):
        tables[f"{BACKGROUND}: where light is"] = tables_of.extended(frames, ["bgrem", BACKGROUND])
    over = [("bgrem", name) for name in methods if name.startswith("bgrem") and "px" not in name]
    over = [pair for pair in over if "bgrem" in methods and pair[1] not in ("bgrem", BACKGROUND)]
    tables["the same skies without wide light: rms error of the background"] = tables_of.by_group(
        without(frames, BACKGROUND), WITHOUT, over=over
    )
    return tables


def without(records, *methods):
    """Records of the other methods."""
    return [record for record in records if record["method"] not in methods]


# ---- figures ---------------------------------------------------------------------------------------------------


def figures_of(frame, before, found):
    """What a method does to a frame and to the light that is planted into it.

    Parameters
    ----------
    frame : wide_skies.WideFrame
    before, found : wide_methods.Found
        In the frame without and with the planted light.

    Returns
    -------
    dict of str to float
        `FIGURES` and `WITHOUT`; NaN where there is nothing to measure.
    """
    sky = before.background if frame.sky is None else frame.sky
    error, good = found.background - sky, np.isfinite(frame.data)
    inside, outside = good & (frame.light >= ISOPHOTE), good & (frame.light < OUTSIDE)
    total = frame.light[inside].sum() or np.nan
    enough = outside.sum() >= LEAST_OUTSIDE * good.sum()
    kept = np.nan if found.sources is None else (found.sources - before.sources)[inside].sum()
    values = (
        abs(error[inside].sum() / total),
        kept / total,
        root_mean_square(error[outside]) if enough else np.nan,
        root_mean_square(error[inside]),
    )
    bare = np.nan if frame.sky is None else root_mean_square((before.background - sky)[good])
    return {**dict(zip(FIGURES, map(float, values), strict=True)), WITHOUT: bare}


def points_of(frame, sources, light):
    """Sources less `light` in pixels of stars inside the planted light, over the stars' light."""
    if frame.field is None or sources is None:
        return np.nan
    chosen = np.isfinite(frame.data) & (frame.light >= ISOPHOTE) & (frame.field >= STAR_LIGHT)
    chosen &= frame.light <= UNDER_STARS * frame.field
    total = frame.field[chosen].sum() or np.nan
    return float((sources - light)[chosen].sum() / total)


def root_mean_square(values):
    return np.sqrt(np.mean(np.square(values))) if values.size else np.nan


def records_of(options, methods, frame, **facts):
    """The figures of each method on a frame; NaN for a method that refuses it."""
    records, significance = [], None
    for name, method in methods.items():
        record = dict.fromkeys((*FIGURES, WITHOUT, POINTS, SIGNIF, "seconds"), np.nan)
        began = perf_counter()
        try:
            before, found = (Found(*method(image)) for image in (frame.before, frame.data))
        except ValueError as error:
            show_progress(options, f"{facts['group']}, {name}: {error}")
        else:
            record["seconds"] = (perf_counter() - began) / 2
            record |= figures_of(frame, before, found)
            light = 0 * frame.light if name == BACKGROUND else frame.light
            record[POINTS] = points_of(frame, found.sources, light)
            if name == "bgrem":
                significance = found.significance
            record[SIGNIF] = largest_change(significance, found.significance)
        records.append({"method": name, **facts, **record})
    return records


def largest_change(one, other):
    """The largest difference of two maps; NaN where one is missing."""
    if one is None or other is None:
        return np.nan
    return float(np.nanmax(np.abs(one - other)))


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
            least = least_error(frame.before, frame.field, frame.sky, ELECTRONS)
            nothing = dict.fromkeys((*FIGURES, POINTS, SIGNIF, "seconds"), np.nan)
            records.append(
                {"method": LEAST, "group": kind, **vars(wide), **nothing, WITHOUT: least}
            )
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


if __name__ == "__main__":
    main()
