"""Whether the error of the background is as large as BKGERR.

    python benchmarks/quality/background_error.py --json results/background_error.json

Whole frames of the sky network's simulator, from seeds that training never draws, of 768 and 1536 pixels a side. In
boxes of 16, 64 and 256 pixels the mean of the background less the true one, over the mean of BKGERR times the factor of
such means (BGR_E64, BGR_E256), is a *pull*: the error of the background is alike over many pixels, so that its means do
not become smaller as those of noise. Of each
frame the mean squared pull; of the frames the median, the central 68 % and the range. It should be 1, in the median
frame 0.8 to 1.25. `factor` is its root: what BKGERR would have to be multiplied by. Pixels that are known to be bad
do not count, nor boxes of which they are more than half.

The same for the frames by what they hold: no wide light, wide light, and light of which bgrem warns that it fills the
frame. Wide light: at least 1 % of the pixels have 0.1 sky rms of it.
"""

from time import perf_counter

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.background import separate
from bgrem.options import ERROR_SIDES as BOXES
from bgrem.options import SKY_METHODS
from bgrem.simulate import draw_whole_frame

SIDES = (768, 1536)  # px
BAR = (0.8, 1.25)
QUANTILES = (0, 0.16, 0.5, 0.84, 1)  # of the frames
LEAST_GOOD = 0.5  # of a box
WIDE, LEAST_WIDE = 0.1, 0.01  # sky rms; part of the frame
#: Number of the streams of random numbers, after which the side and the frame follow.
WHOLE = 18
KINDS = ("no wide light", "wide light", "filled")


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--frames", type=int, default=60, help="of the smallest side; of others "
                        "as many pixels, but at least a third (default: 60)")  # fmt: skip
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES), metavar="N")
    parser.add_argument("--sky", choices=SKY_METHODS, default="network", help="as of bgrem")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    frames = []
    for side in options.sides:
        count = frames_of(options, side)
        for i in range(count):
            show_progress(options, f"{side} px {i + 1}/{count}")
            frame = draw_whole_frame(stream(options.seed, WHOLE, side, i), (side, side))
            parts = separate(frame.data, model=model, maps=(), sky=options.sky)
            frames.append({"side": side, **pulls_of(frame, parts)})
    tables = {
        "mean squared pull of the background in boxes": by_side(frames),
        "by what the frames hold, all sides": by_kind(frames),
    }
    finish(options, tables, model=model, began=began, frames=frames)


def frames_of(options, side):
    """Number of frames of a side."""
    part = (min(options.sides) / side) ** 2
    return max(1, round(options.frames * max(part, 1 / 3)))


def pulls_of(frame, parts):
    """What a frame holds, its error, and the mean squared pull in boxes of each side."""
    good = ~frame.bad
    error = np.asarray(parts.background) - frame.background
    sigma = np.asarray(parts.background_error)
    of_means = dict(
        zip(BOXES, (1.0, parts.provenance.error_64, parts.provenance.error_256), strict=True)
    )
    return {
        "kind": kind_of(frame, parts),
        "error": float(np.sqrt(np.mean(error[good] ** 2, dtype=float))),
        "BKGERR": float(np.median(sigma)),
        **{
            f"{box} px": mean_squared_pull(error, factor * sigma, good, box)
            for box, factor in of_means.items()
        },
    }


def kind_of(frame, parts):
    """One of `KINDS`."""
    if any("fills the frame" in text for text in parts.provenance.warnings):
        return "filled"
    return KINDS[int((frame.wide > WIDE).mean() > LEAST_WIDE)]


def mean_squared_pull(error, sigma, good, box):
    """The mean over boxes of (mean error / mean sigma)^2; NaN where no box is good."""
    number = box_sums(good, box)
    chosen = number >= LEAST_GOOD * box**2
    means = [box_sums(np.where(good, values, 0), box)[chosen] for values in (error, sigma)]
    return float(np.mean((means[0] / means[1]) ** 2)) if chosen.any() else np.nan


def box_sums(image, box):
    """Sums over whole boxes, (my, mx) float64."""
    ny, nx = (n // box for n in image.shape)
    boxes = image[: ny * box, : nx * box].reshape(ny, box, nx, box)
    return boxes.sum(axis=(1, 3), dtype=np.float64)


def by_side(frames):
    """Rows of sides and boxes."""
    sides = list(dict.fromkeys(frame["side"] for frame in frames))
    return [
        {"frames of": f"{side} px", **row_of([f for f in frames if f["side"] == side], box)}
        for side in sides
        for box in BOXES
    ]


def by_kind(frames):
    """Rows of what frames hold and boxes."""
    groups = {kind: [f for f in frames if f["kind"] == kind] for kind in KINDS}
    return [
        {"frames with": kind, **row_of(group, box)}
        for kind, group in groups.items()
        if group
        for box in BOXES
    ]


def row_of(frames, box):
    """Statistics over frames of the mean squared pull in boxes."""
    values = np.array([frame[f"{box} px"] for frame in frames])
    values = values[np.isfinite(values)]
    count = values.size
    least, low, middle, high, largest = (
        map(float, np.quantile(values, QUANTILES)) if count else [np.nan] * len(QUANTILES)
    )
    return {
        "boxes": f"{box} px", "n": count, "median": middle, "within": BAR[0] <= middle <= BAR[1],
        "16 %": low, "84 %": high, "least": least, "largest": largest, "factor": middle**0.5,
        "median error, rms": float(np.median([frame["error"] for frame in frames])),
        "median BKGERR, rms": float(np.median([frame["BKGERR"] for frame in frames])),
    }  # fmt: skip


if __name__ == "__main__":
    main()
