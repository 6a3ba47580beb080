"""False detections on empty sky against the threshold, and the largest source that is invented.

    python benchmarks/quality/blank.py --mpix 100 --json results/blank.json

Half of the area is a quiet sky (photons, read noise, a gradient), half is what a MeerLICHT detector
makes of an empty field (hot pixels, cosmic rays, pattern, quantisation, ghosts, trails). Everything
that is detected is false. The largest invented source is the largest sum of bgrem's sources in a
circle of radius 1 FWHM, over the noise of that sum. The completeness is that of stars of known S/N
on the detector's sky, one every 48 pixels. Recommended is the lowest threshold of the table with at
most one false detection per megapixel on the detector's sky, and what the model's card says.
"""

from time import perf_counter

import numpy as np
from report_card import (
    ADVISED_RATE,
    add_seed,
    add_threshold,
    finish,
    make_parser,
    model_of,
    show_progress,
    stream,
    threshold_of,
)  # fmt: skip
from scipy.signal import oaconvolve
from scipy.spatial import cKDTree

from bgrem.background import separate
from bgrem.evaluate.methods import detections_of
from bgrem.evaluate.truth import known_defects, matching_radius
from bgrem.simulate import Scene, draw
from bgrem.simulate.detector import add_light
from bgrem.simulate.optics import PHASES

EMPTY = {"stars": 0.0, "galaxies": 0.0, "large_galaxies": 0.0, "discs": 0.0}
#: What is left out of the default MeerLICHT scene for the quiet sky.
QUIET = EMPTY | dict.fromkeys(
    ("quantisation", "rms_variation", "tail_fraction", "hot_pixels", "warm_pixels", "dead_pixels",
     "bad_columns", "row_noise", "column_noise", "amplifier_step", "cosmic_rays", "flat_residual",
     "ghosts", "satellite_trails"), 0.0
)  # fmt: skip
SKIES = {"quiet": QUIET, "detector": EMPTY}
THRESHOLDS = tuple(np.arange(-6.0, 6.01, 0.5))
SNR = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0)
SPACING = 48  # px between the stars of the completeness
FWHM = 4.5  # px, the default scene's


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    add_threshold(parser)
    parser.add_argument(
        "--mpix", type=float, default=100.0, help="of both skies together (default: 100)"
    )  # fmt: skip
    parser.add_argument("--side", type=int, default=1024, help="of a frame in pixels")
    parser.add_argument("--star-frames", type=int, default=16, help="frames with stars")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    frames = max(1, round(options.mpix * 1e6 / options.side**2 / len(SKIES)))
    scores, invented, area = {}, [], {}
    for number, (sky, fields) in enumerate(SKIES.items()):
        show_progress(options, f"{frames} frames of {sky} sky")
        looked = [look(fields, options.side, model, stream(options.seed, number, i))
                  for i in range(frames)]  # fmt: skip
        scores[sky] = np.concatenate([found for found, _, _ in looked])
        area[sky] = sum(pixels for _, _, pixels in looked) / 1e6
        invented.append(largest(sky, [worst for _, worst, _ in looked], area[sky]))
    show_progress(options, f"{options.star_frames} frames of stars")
    stars = [star_scores(options.side, model, stream(options.seed, 9, i))
             for i in range(options.star_frames)]  # fmt: skip
    stars = {snr: np.concatenate([part[snr] for part in stars]) for snr in SNR}
    rows = [row_of(level, scores, area, stars) for level in THRESHOLDS]
    quiet = [row for row in rows if row["detector: false/Mpix"] <= ADVISED_RATE]
    chosen = {"model's card, or --threshold": threshold_of(options, model)}
    if quiet:
        chosen["this table"] = quiet[0]["threshold"]
    advised = [{"by": name, **row_of(level, scores, area, stars)} for name, level in chosen.items()]
    tables = {
        "empty sky, and completeness of stars by S/N": rows,
        f"largest invented source in {sum(area.values()):.3g} Mpix of empty sky": invented,
        "recommended": advised,
    }
    finish(options, tables, model=model, began=began, plot=draw_alarms, area=area)


def draw_alarms(tables, figure):
    """False detections against the threshold, and what the threshold costs in depth."""
    rows = next(iter(tables.values()))
    level = [row["threshold"] for row in rows]
    left, right = figure.subplots(1, 2)
    for sky in SKIES:
        left.plot(level, [row[f"{sky}: false/Mpix"] or np.nan for row in rows], label=f"{sky} sky")
    left.axhline(ADVISED_RATE, color="0.7", lw=0.8)
    left.set(yscale="log", xlabel="significance", ylabel="false detections per Mpix of empty sky")
    left.legend()
    right.plot(level, [row["S/N at 50 %"] for row in rows])
    right.set(xlabel="significance", ylabel="S/N of 50 % completeness")


def look(fields, side, model, rng):
    """Scores of what is found on an empty sky, the aperture with most flux, the pixels looked at."""
    sky = draw(Scene(shape=(side, side), fwhm=FWHM, **fields), rng)
    mask = known_defects(sky)
    parts, found = detected(sky.data, mask, model)
    offsets = np.arange(-int(FWHM), int(FWHM) + 1)
    disc = (np.hypot(offsets[:, None], offsets) <= FWHM).astype(np.float64)
    noise = parts.rms * np.sqrt(disc.sum())
    sums = oaconvolve(np.nan_to_num(parts.sources.astype(np.float64)), disc, mode="same") / noise
    peak = np.unravel_index(np.argmax(sums), sums.shape)
    worst = {"S/N": sums[peak], "peak, rms": float((parts.sources / parts.rms).max())}
    return found["score"], worst, mask.size - np.count_nonzero(mask)


def detected(data, mask, model):
    """A frame's parts, and what the recipe finds at any threshold."""
    parts = separate(data, mask=mask, model=model, maps=("significance",))
    return parts, detections_of(parts, mask)


def largest(sky, worst, area):
    """A row: the largest invented source of all frames of a sky."""
    return {
        "sky": sky, "Mpix": area,
        "S/N in a circle of 1 FWHM": max(frame["S/N"] for frame in worst),
        "median of the frames": float(np.median([frame["S/N"] for frame in worst])),
        "brightest pixel, rms": max(frame["peak, rms"] for frame in worst),
    }  # fmt: skip


def star_scores(side, model, rng):
    """The best score on each star of known S/N, -inf where nothing is found: S/N -> scores."""
    sky = draw(Scene(shape=(side, side), fwhm=FWHM, **EMPTY), rng)
    scene, mask = sky.scene, known_defects(sky)
    line = np.arange(SPACING // 2, side - SPACING // 2 + 1, SPACING)
    x, y = (axis.ravel() for axis in np.meshgrid(line, line))
    snr = np.resize(SNR, x.size)
    # The place within a pixel is random, too.
    x, y = (PHASES * axis + rng.integers(0, PHASES, x.size) for axis in (x, y))
    sharpness = np.sqrt(np.square(sky.psf.image, dtype=np.float64).sum())
    light = np.zeros(sky.data.shape, np.float32)
    sky.psf.place(light, x, y, snr * scene.sky_rms / scene.gain / sharpness)
    step = scene.quantisation * scene.sky_rms / scene.gain
    data = add_light(sky.data, light, rng=rng, gain=scene.gain, step=step)
    _, found = detected(data, mask, model)
    best = np.full(x.size, -np.inf)
    if found.size:
        seen = cKDTree(np.column_stack([found["x"], found["y"]]))
        for i, near in enumerate(
            seen.query_ball_point(np.column_stack([x, y]) / PHASES, matching_radius(FWHM))
        ):
            best[i] = found["score"][near].max(initial=-np.inf)
    return {level: best[snr == level] for level in SNR}


def row_of(threshold, scores, area, stars):
    """False detections per Mpix and completeness above a threshold."""
    row = {"threshold": float(threshold)}
    row |= {f"{sky}: false/Mpix": float(np.count_nonzero(found >= threshold) / area[sky])
            for sky, found in scores.items()}  # fmt: skip
    share = {snr: float(np.mean(best >= threshold)) for snr, best in stars.items()}
    row |= {f"S/N {snr:g}": part for snr, part in share.items()}
    return row | {"S/N at 50 %": half_complete(list(share), list(share.values()))}


def half_complete(snr, share):
    """S/N at which the completeness passes one half, by linear interpolation; nan where it never does.

    The lowest S/N stands for all below it.
    """
    share = np.maximum.accumulate(share)
    if share[0] >= 0.5 or share[-1] < 0.5:
        return snr[0] if share[0] >= 0.5 else np.nan
    return float(np.interp(0.5, share, snr))


if __name__ == "__main__":
    main()
