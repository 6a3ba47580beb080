"""How near the background comes to the level that the true sources leave.

    python benchmarks/quality/level.py --json results/level.json

In cells of about 96 pixels of simulated frames, the mean of the background less the true one, in units of the
sky's rms: of bgrem's mesh alone, of its background (the mesh after the second look, `bgrem.sky.level`), and of
SExtractor's (boxes of 64 pixels, a median of 3). The truth is the simulator's background, without its noise; but
for what the noise of a frame has in common (the median over its cells of the mean of the true noise), as the
rounding of the camera has. Defects and gaps are left out. Of each frame the root mean square over
its cells; of the frames the median, and the geometric mean of the ratios to the mesh alone.

Last, what would be left in each cell if the mesh were moved by the mean of bgrem's noise there times one number,
and the mean of the sources up to `bgrem.sky.level.FAINT` rms times another: 1 and `bgrem.sky.level.OF_THE_SKY`
are what bgrem takes. Geometric means of the ratios to the mesh alone. The numbers were chosen on further frames
of these kinds, and then looked at on these: `--seed` draws others.
"""

from time import perf_counter

import numpy as np
from bgrem.sky.level import FAINT, OF_THE_SKY
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
from bgrem.sky.estimate import estimate_mesh
from bgrem.sky.mesh import cell_edges
from bgrem.train.parents import simulated_sky

CELL = 96  # px
FAR = 6.0  # rms: no noise, and no level either
EMPTY = {"stars": 0.0, "galaxies": 0.0, "large_galaxies": 0.0, "discs": 0.0}
#: As in flux.py: many stars, bright ones included.
STARS = {"stars": 1500.0, "star_slope": 0.5, "brightest": 2e4, "galaxies": 500.0,
         "large_galaxies": 0.0, "discs": 0.0}  # fmt: skip
METHODS = ("bgrem, mesh alone", "bgrem", "SExtractor")
#: Times the mean of the noise, and times that of the faint light.
MOVES = ((0.85, 0.0), (1.0, 0.0), (0.85, OF_THE_SKY), (1.0, OF_THE_SKY / 2), (1.0, OF_THE_SKY),
         (1.0, 2 * OF_THE_SKY))  # fmt: skip


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=6, help="of each kind (default: 6)")
    parser.add_argument(
        "--training-frames", type=int, default=40, help="of the training sky (default: 40)"
    )
    parser.add_argument("--side", type=int, default=768, help="of a frame in pixels")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows, cells = [], {}
    for number, (kind, draw_sky) in enumerate(SKIES.items()):
        frames = options.training_frames if kind == "training sky" else options.frames
        seen = []
        for i in range(frames):
            show_progress(options, f"{kind} {i + 1}/{frames}")
            sky = draw_sky(stream(options.seed, number, i), options.side)
            if usable(sky):
                seen.append(look(sky, model))
        rows.append(row_of(kind, [missed for missed, _ in seen]))
        cells[kind] = [known for _, known in seen]
    tables = {
        "level missed in cells, sky rms": rows,
        "left of what the mesh has missed": [moved(cells, *move) for move in MOVES],
    }
    finish(options, tables, model=model, began=began, plot=draw_rows)


def usable(sky):
    """Whether bgrem's own training would have looked at it."""
    gap = known_defects(sky)
    return gap.mean() < 0.5 and np.ptp(sky.data[~gap]) > 0


def look(sky, model):
    """What each method has missed in the cells, and of the first of them what is known besides."""
    bad = known_defects(sky)
    parts = separate(sky.data, mask=bad, model=model, maps=())
    rms, sources = parts.rms, parts.sources / parts.rms
    backgrounds = (
        first_level(sky.data, bad, parts.sky, model.card.box),
        parts.background,
        sky.data - subtract_sky(sky.data, mask=bad).residual,
    )
    good = (sky.mask == 0) & (parts.mask == 0)
    common = np.nanmedian(cell_means(sky.noise / rms, good))
    missed = [common + cell_means((sky.background - level) / rms, good) for level in backgrounds]
    noise = (sky.data - backgrounds[0]) / rms - sources
    known = cell_means(noise, good), cell_means(np.clip(sources, 0, FAINT), good)
    return dict(zip(METHODS, missed, strict=True)), np.stack([missed[0], *known]).reshape(3, -1)


def first_level(data, bad, sky, box):
    """The background before the second look."""
    x = ((data - sky.center) / sky.scale).astype(np.float32)
    x[bad] = 0
    mesh = estimate_mesh(x, bad, box=box)
    return sky.center + sky.scale * mesh.background[:]


def cell_means(image, good):
    """Means over the good pixels of each cell that are not far out; NaN where few are left."""
    good = good & (np.abs(image) < FAR)
    starts = [cell_edges(n, max(1, round(n / CELL)))[:-1] for n in image.shape]

    def added(values):
        return np.add.reduceat(np.add.reduceat(values, starts[0], 0), starts[1], 1)

    number = added(good.astype(float))
    total = added(np.where(good, image, 0.0))
    return np.where(number >= 0.3 * CELL**2, total / np.maximum(number, 1), np.nan)


def row_of(kind, frames):
    """One line of the table."""
    alone, bgrem, sextractor = (
        np.array([np.sqrt(np.nanmean(missed[name] ** 2)) for missed in frames]) for name in METHODS
    )
    return {
        "sky": kind,
        "frames": len(frames),
        **dict(zip(METHODS, map(np.median, (alone, bgrem, sextractor)), strict=True)),
        "bgrem / alone": geometric_mean(bgrem / alone),
        "SExtractor / alone": geometric_mean(sextractor / alone),
        "frames where bgrem is worse than alone": int(np.sum(bgrem > alone)),
    }


def moved(cells, of_noise, of_faint):
    """One line of what is left where the mesh is moved by so much."""
    row = {"of the noise": of_noise, f"of sources up to {FAINT:g} rms": of_faint}
    for kind, frames in cells.items():
        ratios = []
        for known in frames:
            missed, noise, faint = known[:, np.isfinite(known).all(axis=0)]
            left = missed - of_noise * noise - of_faint * faint
            ratios.append(np.sqrt(np.mean(left**2) / np.mean(missed**2)))
        row[kind] = geometric_mean(ratios)
    return row


def geometric_mean(values):
    """NaN where there is none."""
    return float(np.exp(np.mean(np.log(values)))) if len(values) else np.nan


def draw_rows(tables, figure):
    """The medians, sky by sky."""
    axes = figure.subplots()
    rows = next(iter(tables.values()))
    for name in METHODS:
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


SKIES = {
    "empty": of_scene(**EMPTY),
    "MeerLICHT": meerlicht,
    "many stars": of_scene(**STARS),
    "training sky": simulated_sky,
}


if __name__ == "__main__":
    main()
