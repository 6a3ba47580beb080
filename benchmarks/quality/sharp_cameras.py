"""Detections where stars are hardly wider than defects: bgrem over the matched filter behind astroscrappy.

    python benchmarks/quality/sharp_cameras.py --json results/sharp_cameras.json

CCD frames of stars of 1.8 to 2.5 pixels FWHM (Moffat, beta 3; per Mpix 1500 of S/N 1 and more) and small galaxies,
with, per Mpix, 20 warm pixels of 3 to 10 sky rms and 50 small hits of cosmic rays: one to three pixels, the first of 3
to 300 sky rms, even in the logarithm. The columns `at 10`, `at 30` and `at 100` are the true detections on bgrem's
significance over those of the matched filter with the true PSF, which takes away what astroscrappy finds, each at that
number of false detections per Mpix, with an interval of 68 %. `FWHM` is that of the drawn PSF, `measured` the median of
what bgrem measures: an equivalent width, which is `equivalent` for this PSF without noise.

*By method*: true detections per Mpix at these rates, also of the matched filter on the same frames without the
defects, which then needs no astroscrappy; and of the 10 false detections per Mpix, how many are on a warm pixel or on a
hit (within 1.5 pixels), and how many are on neither.
"""

from dataclasses import replace
from time import perf_counter

import numpy as np
from frames import (
    CAMERA,
    FALSE_PER_MPIX,
    add_hits,
    add_sizes,
    between,
    judged,
    ratios_of,
    widths_of,
)
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.detection.point_sources import detect_matched_filter
from bgrem.evaluate.froc import FALSE, match
from bgrem.evaluate.methods import simulated_frame
from bgrem.masks.areas import grown, inside
from bgrem.simulate import Scene

STREAM = 22
CLEAN = "matched filter, no defects"
WIDTHS = (1.8, 2.0, 2.2, 2.5)
FIELD = CAMERA | {"cosmic_rays": 0.0, "stars": 1500.0, "galaxies": 500.0, "galaxy_radius": 0.8}
PER_MPIX = {"warm pixels": 20.0, "hits": 50.0}
HEIGHTS = {"warm pixels": (3.0, 10.0), "hits": (3.0, 300.0)}  # sky rms
NEAR = 1.5  # px


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    add_sizes(parser, frames=8, side=1024, fwhm=WIDTHS)
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows, methods = [], []
    for fwhm in options.fwhm:
        show_progress(options, f"FWHM {fwhm:g}")
        scene = Scene(shape=(options.side, options.side), fwhm=fwhm, **FIELD)
        rngs = [stream(options.seed, STREAM, int(10 * fwhm), i) for i in range(options.frames)]
        clean, drawn, hit = zip(*(camera_frame(scene, rng) for rng in rngs), strict=True)
        seen = judged(drawn, model)
        seen.add(CLEAN, [without_defects(frame) for frame in clean])
        widths = widths_of(scene, seen)
        rows.append(widths | ratios_of(seen))
        methods += [{"FWHM": widths["FWHM"]} | row for row in by_method(seen, hit)]
    tables = {"true detections over the matched filter's": rows, "by method, per Mpix": methods}
    finish(options, tables, model=model, began=began)


def camera_frame(scene, rng):
    """A frame without defects, the same frame with them, and the pixels of each kind of them."""
    frame = simulated_frame(scene, rng)
    added, where = np.zeros(frame.data.shape), {}
    for kind, density in PER_MPIX.items():
        light = np.zeros(added.shape)
        rows, columns = rng.integers(
            0, added.shape[0], (2, rng.poisson(density * added.size / 1e6))
        )
        heights = between(rng, HEIGHTS[kind], rows.size)
        if kind == "hits":
            add_hits(light, rng, rows, columns, heights)
        else:
            light[rows, columns] = heights
        added, where[kind] = added + light, light > 0
    if scene.quantisation:
        added = np.rint(added / scene.quantisation) * scene.quantisation
    unit = scene.sky_rms / scene.gain
    return frame, replace(frame, data=(frame.data + unit * added).astype(np.float32)), where


def without_defects(frame):
    """What the matched filter detects where no pixel is wrong."""
    return detect_matched_filter(
        frame.data, frame.psf, mask=frame.mask, gain=frame.gain, cosmic_rays=False
    )


def by_method(seen, hit):
    """Rows: true detections of each method, and where its false ones are."""
    near = [{kind: grown(where, NEAR) for kind, where in frame.items()} for frame in hit]
    rows = []
    for name, curve in seen.curves.items():
        true = {f"true at {rate:g}": curve.true_positives(rate) for rate in FALSE_PER_MPIX}
        false = dict.fromkeys((*(f"false on {kind}" for kind in PER_MPIX), "on neither"), 0.0)
        least = curve.threshold(FALSE_PER_MPIX[0])
        for table, truth, kinds in zip(seen.tables[name], seen.truths, near, strict=True):
            outcome, _ = match(table, truth)
            wrong = table[(outcome == FALSE) & (table["score"] >= least)]
            on = {kind: inside(area, wrong["x"], wrong["y"]) for kind, area in kinds.items()}
            for kind, found in on.items():
                false[f"false on {kind}"] += found.sum()
            false["on neither"] += (~np.any(list(on.values()), axis=0)).sum()
        rows.append({"method": name} | {key: n / curve.area for key, n in (true | false).items()})
    return rows


if __name__ == "__main__":
    main()
