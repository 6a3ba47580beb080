"""Counts maps: true detections at equal false ones beside other methods, fluxes, false alarms, sums, time.

    python benchmarks/quality/counts.py --json results/counts.json

Maps of `counts.toml`, which no training draws: patches of 10 degrees of the Fermi-LAT (false detections are counted per square
degree) and inner parts of fields of Chandra (per 1e4 noise-equivalent areas of the PSF). A source counts from an expected S/N
(square root of the expected test statistic) of 2 on; detections on fainter ones, down to 0.7, and on extended sources are
not scored. A detection is matched to one source within 1.5 pixels or half the FWHM. Ratios are followed by their 68 %
interval (bootstrap over maps). A star marks fewer than ten false detections.

"TS" is the square root of gammapy's test statistic with the PSF and: the true background; the true one times 0.8; without the part that
is isotropic; without all else; the mean of a ring; a flat one. "bgrem" has exposure, template and PSF, "PSF only"
the PSF, "nothing" the counts alone; "no isotropic" and "no diffuse" have the background of the TS map of this name
as their template. "SEP" is SExtractor with its defaults.

The kind "control" has few sources on a flat background, where the TS map is the best that is possible.

Fluxes are those of `bgrem.counts_training.counts_flux` over the true ones; "light in aperture" is the sum of the sources within one FWHM over
the true light there. Detections of the other methods are kept in a folder, and are not measured again.
"""

from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from counts_real import separation_of
from report_card import finish, make_parser, show_progress

from bgrem.counts.counts_model import load_counts_model
from bgrem.counts_training.counts_evaluation import evaluate_counts
from bgrem.counts_training.counts_froc import read_counts_groups

FROZEN = Path(__file__).with_name("counts.toml")
KEPT = Path(__file__).resolve().parents[2] / "results" / "counts_detections"
#: Sides of the maps whose separation is timed.
TIMED = (256, 512, 1024)


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    parser.set_defaults(model="counts")
    parser.add_argument("--maps", type=int, metavar="N", help="of each group (default: all)")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="of counts.toml (default: all)")
    parser.add_argument("--levels", nargs="+", type=float, help="counts a pixel (default: all)")
    parser.add_argument(
        "--blank", type=int, default=250, metavar="N", help="source-free maps of each level (250)"
    )
    parser.add_argument(
        "--kept", default=KEPT, metavar="FOLDER", help="detections of other methods"
    )
    options = parser.parse_args(argv)
    began = perf_counter()
    described, separate = separation_of(options)
    model = load_counts_model(options.model)
    groups = [
        group
        for group in read_counts_groups(FROZEN)
        if (not options.kinds or group.kind in options.kinds)
        and (not options.levels or group.level in options.levels)
    ]
    tables = evaluate_counts(
        separate, groups, number=options.maps, folder=options.kept, blank_number=options.blank,
        threshold_for=model.threshold_for if model.false_alarms else None,
        progress=partial(show_progress, options),
    )  # fmt: skip
    tables["time of a map"] = [timed(separate, side) for side in TIMED]
    finish(options, tables, model=described, began=began)


def timed(separate, side):
    """Time of a map of one band with 1 count a pixel, the least of three."""
    counts = np.random.default_rng(side).poisson(1.0, (1, side, side))
    times = []
    for _ in range(3):
        began = perf_counter()
        separate(counts)
        times.append(perf_counter() - began)
    return {"side": side, "s": min(times), "Mpix/s": side * side / 1e6 / min(times)}


if __name__ == "__main__":
    main()
