"""Level, noise and kept light of maps of few counts.

    python benchmarks/quality/few_counts.py --json results/few_counts.json

Poisson maps of 512 x 512 pixels with 60 Gaussian stars (sigma 1.5 pixels) of 60 or 200 counts, or none, on a sky of 5e-4
to 0.2 counts a pixel: the level and the rms that bgrem measures over the true ones, and the sum of its sources
over the true light where this is above 0.02 counts. Last, the kept light with other values of
`bgrem.sky.mesh.LEAST_OF_STEP`, the part of a count that is at least the unit of the network; the shipped value was
chosen by this.
"""

from time import perf_counter

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.background import separate
from bgrem.sky import mesh

SIGMA = 1.5  # px
SKIES = (5e-4, 5e-3, 0.02, 0.05, 0.2)
COUNTS = (0.0, 60.0, 200.0)
SEEN = 0.02  # counts
PARTS_OF_STEP = (0.0, 0.25, mesh.LEAST_OF_STEP)


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--side", type=int, default=512, help="of a map in pixels (default: 512)")
    parser.add_argument("--stars", type=int, default=60, help="of a map (default: 60)")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows, parts_of_step = [], []
    for i, counts in enumerate(COUNTS):
        for j, level in enumerate(SKIES):
            show_progress(options, f"{counts:g} counts on {level:g}")
            rng = stream(options.seed, i, j)
            light, data = count_map(options.side, options.stars, counts, level, rng)
            parts = separate(data, model=model, maps=())
            row = {"counts of a star": counts, "sky": level}
            rows.append(
                row
                | {
                    "level / true": parts.provenance.level / level,
                    "rms / true": np.median(parts.rms) / level**0.5,
                    "light kept": kept(parts, light),
                }
            )
            if counts:
                parts_of_step.append(row | by_part_of_step(light, data, model))
    tables = {"few counts": rows, "light kept, by the least unit in counts": parts_of_step}
    finish(options, tables, model=model, began=began)


def count_map(side, stars, counts, level, rng):
    """Expected counts of the stars, and a map."""
    y, x = np.indices((side, side)).astype(np.float64)
    light = np.zeros((side, side))
    for a, b in rng.uniform(10, side - 10, (stars, 2)):
        light += np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * SIGMA**2))
    light *= counts / (2 * np.pi * SIGMA**2)
    return light, rng.poisson(level + light).astype(np.float32)


def kept(parts, light):
    """Sum of the sources over the true light where there is any."""
    seen = light > SEEN
    return parts.sources[seen].sum() / light[seen].sum() if seen.any() else np.nan


def by_part_of_step(light, data, model):
    """The kept light for each value of LEAST_OF_STEP."""
    shipped, row = mesh.LEAST_OF_STEP, {}
    for part in PARTS_OF_STEP:
        mesh.LEAST_OF_STEP = part
        row[f"{part:g}"] = kept(separate(data, model=model, maps=()), light)
    mesh.LEAST_OF_STEP = shipped
    return row


if __name__ == "__main__":
    main()
