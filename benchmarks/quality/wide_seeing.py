"""Detections where stars are wide: bgrem, which measures their width, over the matched filter that is given it.

    python benchmarks/quality/wide_seeing.py --json results/wide_seeing.json

Moffat stars (beta 3) of 5 to 8 pixels FWHM and small galaxies, in white noise and in noise as a resampled image has
it (an interpolation kernel with a standard deviation of 0.4 pixels); in *few* fields, 60 stars per Mpix have S/N 10
or more, in *usual* ones three times as many. The columns `at 10`, `at 30` and `at 100` are the true detections on
bgrem's significance over those of the matched filter with the true PSF, each at that number of false detections per
Mpix, with an interval of 68 %. `FWHM` is that of the drawn PSF, `measured` the median of what bgrem measures: an
equivalent width, which is `equivalent` for this PSF without noise. *Means* are over the widths; their errors are the
half widths of the intervals, added in quadrature. There are twice as many frames of few stars as of usual fields.
"""

from itertools import product
from time import perf_counter

import numpy as np
from frames import FALSE_PER_MPIX, PLAIN, add_sizes, judged, ratios_of, widths_of
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.evaluate.methods import simulated_frame
from bgrem.simulate import Scene

STREAM = 21
WIDTHS = (5.0, 6.0, 7.0, 8.0)
NOISES = {"white": 0.0, "resampled": 0.4}  # correlation, px
SLOPE = 0.7  # of the cumulative counts of stars
BRIGHT = 10.0  # S/N
#: Stars brighter than that and galaxies of S/N 1 and more, per Mpix; frames for each that is asked for.
FIELDS = {"few": (60.0, 50.0, 2), "usual": (180.0, 400.0, 1)}
GALAXY_RADIUS = 0.35  # median half-light radius in FWHM


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    add_sizes(parser, frames=2, side=1024, fwhm=WIDTHS)
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows = []
    for (field, noise), fwhm in product(product(FIELDS, NOISES), options.fwhm):
        show_progress(options, f"{field} stars, {noise} noise, FWHM {fwhm:g}")
        scene, numbers = scene_of(options.side, fwhm, noise, field)
        rngs = [
            stream(options.seed, STREAM, *numbers, i)
            for i in range(FIELDS[field][-1] * options.frames)
        ]
        seen = judged((simulated_frame(scene, rng) for rng in rngs), model)
        row = {"stars": field, "noise": noise}
        rows.append(row | widths_of(scene, seen) | ratios_of(seen))
    tables = {"true detections over the matched filter's": rows, "means": means(rows)}
    finish(options, tables, model=model, began=began)


def scene_of(side, fwhm, noise, field):
    """The scene of one row of the table, and the numbers of its stream."""
    bright, galaxies, _ = FIELDS[field]
    scene = Scene(
        shape=(side, side), fwhm=fwhm, correlation=NOISES[noise], star_slope=SLOPE,
        stars=bright * BRIGHT**SLOPE, galaxies=galaxies, galaxy_radius=GALAXY_RADIUS * fwhm, **PLAIN,
    )  # fmt: skip
    return scene, (list(FIELDS).index(field), list(NOISES).index(noise), int(10 * fwhm))


def means(rows):
    """Rows: means over the widths, for each field and noise and for all."""
    kinds = [(field, noise) for field in FIELDS for noise in NOISES]
    chosen = {kind: [row for row in rows if (row["stars"], row["noise"]) == kind] for kind in kinds}
    chosen["all", "all"] = rows
    lines = []
    for (field, noise), mine in chosen.items():
        line = {"stars": field, "noise": noise}
        for rate in FALSE_PER_MPIX:
            line[f"at {rate:g}"] = float(np.mean([row[f"at {rate:g}"] for row in mine]))
            half = [np.ptp(row[f"68 % at {rate:g}"]) / 2 for row in mine]
            line[f"error at {rate:g}"] = float(np.linalg.norm(half) / len(mine))
        lines.append(line)
    return lines


if __name__ == "__main__":
    main()
