"""How much of the light of bright stars the sources keep, on any frames.

    python benchmarks/quality/kept_light.py ../images/*.fits --json results/kept_light.json

For every local maximum above 30 times the sky's rms: the sum of the sources over that of the data
less the background, in 5 x 5 pixels. What lost more than a fifth is a defect, a particle or a trail,
or else a star whose flux is wrong: sharp ones, of which one pixel holds more than 0.6, are counted
apart, since no telescope makes such stars.
"""

from time import perf_counter

import numpy as np
from report_card import finish, make_parser, model_of, show_progress
from scipy.ndimage import maximum_filter

from bgrem.background import separate
from bgrem.io.reading import FitsError, as_planes, read_image

BRIGHT = 30.0  # sky rms
HALF = 2  # px: half width of the square
LOST = 0.8
SHARP = 0.6


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows = []
    for path in options.files:
        try:
            data = as_planes(read_image(path).data)[0]
            rows.append({"frame": path.rsplit("/", 1)[-1][:36], **kept(data, model)})
        except (FitsError, ValueError) as error:
            show_progress(options, f"{path}: {error}")
    finish(options, {"light of bright peaks": rows}, model=model, began=began)


def kept(data, model):
    """One line of the table."""
    parts = separate(data, model=model, maps=())
    x = (data - parts.background) / parts.rms
    sources = parts.sources / parts.rms
    with np.errstate(invalid="ignore"):
        peak = (x == maximum_filter(np.nan_to_num(x), 2 * HALF + 3)) & (x > BRIGHT)
    rows, columns = np.nonzero(peak[HALF:-HALF, HALF:-HALF])
    squares = [
        (slice(y, y + 2 * HALF + 1), slice(c, c + 2 * HALF + 1))
        for y, c in zip(rows, columns, strict=True)
    ]
    light = np.array([x[square].sum() for square in squares])
    share = np.array([sources[square].sum() for square in squares]) / light
    sharp = np.array([x[square].max() for square in squares]) / light > SHARP
    known = np.isfinite(share)  # not where a pixel is missing
    share, sharp = share[known], sharp[known]
    lost = share < LOST
    low, median = np.percentile(share, [5, 50]) if share.size else (np.nan, np.nan)
    return {
        "peaks": share.size,
        "median kept": float(median),
        "5 % keep less than": float(low),
        "lost": int(lost.sum()),
        "of these sharp": int((lost & sharp).sum()),
        "warnings": "; ".join(parts.provenance["warnings"]) or "none",
    }


if __name__ == "__main__":
    main()
