"""How near the background comes to the level that the true sources leave.

    python benchmarks/quality/level.py --json results/level.json
    python benchmarks/quality/level.py --other CHECKOUT           an older checkout, too

In cells of about 96 pixels of simulated frames, the mean of the background less the true one, in units of the
rms of the mesh: of bgrem with its sky network, of bgrem with `--sky mesh`, of SExtractor (boxes of 64 pixels, a median of
3), and of the bgrem of another checkout. The truth is the simulator's background, without its noise; but for what
the noise of a frame has in common (the median over its cells of the mean of the true noise), as the rounding of the
camera has. Defects and gaps are left out. Of each frame the root mean square over its cells; of the frames the
median, and the geometric mean of the ratios to the mesh.

Skies: the MeerLICHT camera without sources, its frozen scenes, many stars; crowds of 1e4 stars per Mpix at three
widths of the stars, and star clusters, each on the same camera; the sky that the denoising network is trained on.
"""

from time import perf_counter

import numpy as np
from other_checkout import OtherCheckout
from report_card import (
    add_seed,
    finish,
    make_parser,
    meerlicht_scene,
    model_of,
    show_progress,
    stream,
)

from bgrem.background import separate
from bgrem.detection.sextractor import subtract_sky
from bgrem.evaluate.truth import known_defects
from bgrem.simulate import Scene, draw
from bgrem.sky.mesh import cell_edges
from bgrem.train.parents import simulated_sky

CELL = 96  # px
FAR = 6.0  # rms: no noise, and no level either
EMPTY = {"stars": 0.0, "galaxies": 0.0, "large_galaxies": 0.0, "discs": 0.0}
#: As in flux.py: many stars, bright ones included.
STARS = {"stars": 1500.0, "star_slope": 0.5, "brightest": 2e4, "galaxies": 500.0,
         "large_galaxies": 0.0, "discs": 0.0}  # fmt: skip
CROWD = EMPTY | {"stars": 1e4}
CROWD_FWHM = (2.0, 3.5, 6.0)  # px
CLUSTER = EMPTY | {"stars": 8e3, "clustered": 0.9, "cluster_radius": 60.0}
NETWORK, MESH, SEXTRACTOR = "bgrem", "bgrem --sky mesh", "SExtractor"


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=6, help="of each kind (default: 6)")
    parser.add_argument(
        "--training-frames", type=int, default=40, help="of the training sky (default: 40)"
    )
    parser.add_argument("--side", type=int, default=768, help="of a frame in pixels")
    parser.add_argument("--other", metavar="CHECKOUT", help="another checkout of bgrem, too")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    methods = methods_of(options, model)
    rows = []
    for kind, (number, draw_sky) in SKIES.items():
        frames = options.training_frames if kind == "training sky" else options.frames
        seen = []
        for i in range(frames):
            show_progress(options, f"{kind} {i + 1}/{frames}")
            sky = draw_sky(stream(options.seed, number, i), options.side)
            if usable(sky):
                seen.append(missed(sky, model, methods))
        rows.append(row_of(kind, seen, [MESH, *methods]))
    tables = {"level missed in cells, sky rms": rows}
    finish(options, tables, model=model, began=began, plot=draw_rows)


def methods_of(options, model):
    """Functions of an image and its bad pixels that give the background, by their names."""
    methods = {
        NETWORK: lambda data, bad: separate(data, mask=bad, model=model, maps=()).background,
        SEXTRACTOR: lambda data, bad: data - subtract_sky(data, mask=bad).residual,
    }
    if options.other:
        other = OtherCheckout(options.other, threads=options.threads)
        methods[other.name] = lambda data, bad: other(np.where(bad, np.nan, data))[0]
    return methods


def usable(sky):
    """Whether the training of bgrem would use the frame."""
    gap = known_defects(sky)
    return gap.mean() < 0.5 and np.ptp(sky.data[~gap]) > 0


def missed(sky, model, methods):
    """The root mean square over the cells of what the mesh and each method miss."""
    bad = known_defects(sky)
    mesh = separate(sky.data, mask=bad, model=model, maps=(), sky="mesh")
    good = (sky.mask == 0) & (mesh.mask == 0)
    common = np.nanmedian(cell_means(sky.noise / mesh.rms, good))
    backgrounds = {MESH: mesh.background}
    backgrounds |= {name: method(sky.data, bad) for name, method in methods.items()}
    out = {}
    for name, background in backgrounds.items():
        level = common + cell_means((sky.background - background) / mesh.rms, good)
        out[name] = float(np.sqrt(np.nanmean(level**2)))
    return out


def cell_means(image, good):
    """Means over the good pixels of each cell that are not far out; NaN where few are left."""
    good = good & (np.abs(image) < FAR)
    starts = [cell_edges(n, max(1, round(n / CELL)))[:-1] for n in image.shape]

    def added(values):
        return np.add.reduceat(np.add.reduceat(values, starts[0], 0), starts[1], 1)

    number = added(good.astype(float))
    total = added(np.where(good, image, 0.0))
    return np.where(number >= 0.3 * CELL**2, total / np.maximum(number, 1), np.nan)


def row_of(kind, frames, methods):
    """One line of the table, of frames with the error of each method."""
    errors = {name: np.array([frame[name] for frame in frames]) for name in methods}
    row = {"sky": kind, "frames": len(frames)}
    row |= {name: float(np.median(values)) if frames else np.nan for name, values in errors.items()}
    for name in methods:
        if name != MESH:
            row[f"{name} / mesh"] = geometric_mean(errors[name] / errors[MESH])
    worse = errors[NETWORK] > errors[MESH]
    return row | {"frames where bgrem is worse than the mesh": int(np.sum(worse))}


def geometric_mean(values):
    """NaN where there is none."""
    return float(np.exp(np.mean(np.log(values)))) if len(values) else np.nan


def draw_rows(tables, figure):
    """The medians, sky by sky."""
    axes = figure.subplots()
    rows = next(iter(tables.values()))
    for name in (NETWORK, MESH, SEXTRACTOR):
        axes.plot([row[name] for row in rows], "o-", label=name)
    axes.set_xticks(range(len(rows)), [row["sky"] for row in rows])
    axes.set(yscale="log", ylabel="level missed in a cell, sky rms")
    axes.legend()


def of_scene(**fields):
    """A way to draw a MeerLICHT frame with these fields changed."""
    return lambda rng, side: draw(Scene(shape=(side, side), **fields), rng)


def meerlicht(rng, side):
    """One of the frozen scenes."""
    return draw(meerlicht_scene(rng, side), rng)


#: Name -> number of the stream of random numbers, and how a frame is drawn.
SKIES = {
    "empty": (0, of_scene(**EMPTY)),
    "MeerLICHT": (1, meerlicht),
    "many stars": (2, of_scene(**STARS)),
    **{f"crowd, {fwhm:g} px": (4 + i, of_scene(**CROWD, fwhm=fwhm))
       for i, fwhm in enumerate(CROWD_FWHM)},
    "cluster": (7, of_scene(**CLUSTER)),
    "training sky": (3, simulated_sky),
}  # fmt: skip


if __name__ == "__main__":
    main()
