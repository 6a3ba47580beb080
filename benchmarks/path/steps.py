"""What more diffusion steps give, and what they cost.

    python benchmarks/path/steps.py

On simulated MeerLICHT frames with known truth: sources found in the cleaned image (local maxima of
the lightly smoothed sources) at 10 and 100 false ones per megapixel; flux of stars within 1 FWHM of
their centre over the true one, the median in two ranges of S/N; their width over the true one (that
of the Gaussian with the same noise-equivalent area); root mean square of the sources where nothing
is; and the time. The significance is that of the first step, whatever their number.
"""

import time

import numpy as np
from checks import model_of, options, report, simulated

from bgrem.background import separate
from bgrem.detection.detect import detect_on_sources
from bgrem.detection.widths import equivalent_widths
from bgrem.evaluate.froc import froc
from bgrem.evaluate.truth import truth_of_sky
from bgrem.simulate.scene import DEFECT_BIT, FULL_WELL_BIT, GAP_BIT, STAR

RATES = (10.0, 100.0)
RANGES = ((5, 15), (15, 100))  # S/N
REACH = 12  # px
LONELY = 5.0  # FWHM to the next source of a tenth of the flux


def main():
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=(1, 2, 4, 8, 16))
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--side", type=int, default=1024, help="of a frame in pixels")
    chosen = parser.parse_args()
    model = model_of(chosen)
    skies = [simulated((chosen.side, chosen.side), seed=100 + i) for i in range(chosen.frames)]
    rows = [row_of(steps, skies, model) for steps in chosen.steps]
    for row in rows:
        row["cost"] = row["seconds"] / rows[0]["seconds"]
    report("steps", rows, chosen, model=model, frames=chosen.frames, side=chosen.side)


def row_of(steps, skies, model):
    began = time.perf_counter()
    parts = [separate(sky.data, model=model, steps=steps, maps=()) for sky in skies]
    seconds = time.perf_counter() - began
    curve = froc(
        [detect_on_sources(part.sources, part.rms) for part in parts],
        [truth_of_sky(sky, border=8) for sky in skies],
    )
    snr, flux, width = np.concatenate(
        [measured(part.sources, sky) for part, sky in zip(parts, skies, strict=True)], axis=1
    )
    row = {"steps": steps}
    row |= {f"found at {rate:g}": curve.true_positives(rate) for rate in RATES}
    for low, high in RANGES:
        chosen = (snr >= low) & (snr < high)
        row[f"flux, S/N {low} to {high}"] = _median(flux[chosen])
    row["width"] = _median(width[snr >= RANGES[1][0]])
    row["empty rms"] = float(np.mean([empty(p, s) for p, s in zip(parts, skies, strict=True)]))
    return row | {"seconds": seconds}


def _median(values):
    return float(np.median(values)) if len(values) else np.nan


def measured(sources, sky):
    """S/N, flux and width of lonely stars, the last two over the true ones: (3, n)."""
    stars = lonely_stars(sky)
    found, true = (stamps(image, stars) for image in (sources, sky.sources))
    offsets = np.arange(-REACH, REACH + 1)
    inside = np.hypot(offsets[:, None], offsets) <= sky.scene.fwhm
    flux = (found * inside).sum((1, 2)) / (true * inside).sum((1, 2))
    width = equivalent_widths(found)[0] / equivalent_widths(true)[0]
    return np.stack([stars["snr"], flux, width])


def lonely_stars(sky):
    """Stars with nothing beside them, no defect on them and a stamp's distance to the border."""
    truth, reach = sky.truth, LONELY * sky.scene.fwhm
    ny, nx = sky.data.shape
    low, high = RANGES[0][0], RANGES[-1][1]
    chosen = (truth["kind"] == STAR) & (truth["snr"] >= low) & (truth["snr"] < high)
    chosen &= (truth["x"] > REACH + 1) & (truth["x"] < nx - REACH - 2)
    chosen &= (truth["y"] > REACH + 1) & (truth["y"] < ny - REACH - 2)
    bad = sky.mask & (DEFECT_BIT | GAP_BIT | FULL_WELL_BIT) != 0
    for i in np.flatnonzero(chosen):
        star = truth[i]
        near = np.hypot(truth["x"] - star["x"], truth["y"] - star["y"]) < reach
        chosen[i] = np.count_nonzero(near & (truth["flux"] > 0.1 * star["flux"])) == 1
        x, y = round(float(star["x"])), round(float(star["y"]))
        chosen[i] &= not bad[y - 4 : y + 5, x - 4 : x + 5].any()
    return truth[chosen]


def stamps(image, stars):
    """Images of stars around their nearest pixels, (n, k, k) float64."""
    offsets = np.arange(-REACH, REACH + 1)
    rows, columns = (np.rint(stars[name]).astype(int)[:, None] + offsets for name in ("y", "x"))
    return image[rows[:, :, None], columns[:, None, :]].astype(np.float64)


def empty(part, sky):
    """Root mean square of the sources, in sky rms, where the true ones are below a hundredth."""
    dark = (sky.sources < 0.01 * sky.rms) & (sky.mask == 0)
    return float(np.sqrt(np.mean((part.sources / part.rms)[dark] ** 2)))


if __name__ == "__main__":
    main()
