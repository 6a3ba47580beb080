"""How much of a star's light is kept beside bad pixels, and what bad pixels add to the false detections.

    python benchmarks/quality/holes.py --json results/holes.json

*Stars* with a Moffat profile (beta 3), S/N 100 to 5000, on a flat sky with photon noise. Through each goes a
hole: its core, a column, three columns, a row, the edge of the coverage (straight or slanted), a cross, its
brightest pixel, or a twentieth of all pixels are bad. The pixels are NaN, or masked and hold 65535. `kept` is the sum
of bgrem's sources over the true light, in the good pixels within 1.6 FWHM of the star: the median and the
least of the stars. `wide core` is bad to 1 FWHM: of its stars only the wings are left. `outside` are stars that
are centred up to 1.5 pixels outside the image. `none` has no hole.

*Empty sky* with the same kinds of bad pixels: detections per Mpix above the significance at which the model's card
expects 10, on bgrem's significance of good pixels.
"""

from time import perf_counter

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.arrays.filters import maximum_filter
from bgrem.background import separate

BETA = 3.0
FWHM = (2.2, 3.0, 4.0, 5.5)
SNR = (100.0, 5000.0)
SKY, VARIANCE, GAIN = 1000.0, 100.0, 1.5
PITCH = 72  # pixels between stars
REACH = 25  # half length of a column, a row and a border in pixels
KINDS = ("none", "core", "column", "row", "border", "slanted border", "3 columns", "cross", "pixel",
         "scattered", "wide core", "outside")  # fmt: skip
FALSE_RATE = 10.0  # per Mpix


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--grid", type=int, default=7, help="stars along each axis (default: 7)")
    parser.add_argument("--side", type=int, default=1024, help="of an empty frame in pixels")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows = []
    for k, kind in enumerate(KINDS):
        show_progress(options, kind)
        rows += [
            kept_light(kind, value, model, (options.seed, k), options.grid)
            for value in (("NaN", "masked") if kind not in ("none", "outside") else ("",))
        ]
    show_progress(options, "empty sky")
    empty = false_detections(options, model)
    tables = {"light kept beside holes": rows, "false detections in empty sky, per Mpix": empty}
    finish(options, tables, model=model, began=began)


def kept_light(kind, value, model, streams, grid):
    """One line of the table: medians and least of the light that is kept, for each FWHM."""
    row = {"hole": kind, "bad pixels": value}
    for i, fwhm in enumerate(FWHM):
        rng = stream(*streams, i)
        light, data, places = star_frame(kind, fwhm, rng, grid)
        bad = hole(kind, places, fwhm, light.shape, rng)
        mask = bad if value == "masked" else None
        data[bad] = 65535 if value == "masked" else np.nan
        parts = separate(data, mask=mask, model=model, maps=())
        y, x = np.indices(light.shape)
        kept = [
            parts.sources[good].sum() / light[good].sum()
            for a, b in places
            if (good := ~bad & (np.hypot(x - a, y - b) < 1.6 * fwhm)).any()
        ]
        row[f"FWHM {fwhm:g}, median"], row[f"{fwhm:g}, least"] = np.median(kept), np.min(kept)
    return row


def star_frame(kind, fwhm, rng, grid):
    """Light, data and places of stars on a grid, or along the left edge."""
    side = grid * PITCH
    y, x = np.indices((side, side)).astype(np.float64)
    core = fwhm / 2 / np.sqrt(2 ** (1 / BETA) - 1)
    places, light = [], np.zeros((side, side))
    for i in range(grid**2):
        row, column = divmod(i, grid)
        a, b = ((place + 0.5) * PITCH + rng.uniform(-2, 2) for place in (column, row))
        if kind == "outside":
            if i >= 2 * grid:
                break
            a, b = rng.uniform(-1.5, -0.5), (i + 0.5) * PITCH / 2
        snr = np.exp(rng.uniform(*np.log(SNR)))
        flux = snr * np.sqrt(VARIANCE * np.pi * fwhm**2 / (2 * np.log(2)))
        profile = (1 + ((x - a) ** 2 + (y - b) ** 2) / core**2) ** -BETA
        light += flux * (BETA - 1) / np.pi / core**2 * profile
        places.append((a, b))
    noise = rng.normal(size=light.shape) * np.sqrt(VARIANCE + light / GAIN)
    return light, (SKY + light + noise).astype(np.float32), places


def hole(kind, places, fwhm, shape, rng):
    """The bad pixels of a kind through stars at these places, bool."""
    y, x = np.indices(shape)
    bad = np.zeros(shape, bool)
    if kind == "scattered":
        return rng.random(shape) < 0.05
    for a, b in places:
        near = (np.abs(x - a) < REACH) & (np.abs(y - b) < REACH)
        beside, cut = rng.integers(-1, 2), rng.uniform(-0.3, 0.6) * fwhm
        bad |= {
            "core": np.hypot(x - a, y - b) < 0.5 * fwhm,
            "wide core": np.hypot(x - a, y - b) < fwhm,
            "column": near & (x == round(a) + beside),
            "3 columns": near & (np.abs(x - round(a) - beside) <= 1),
            "row": near & (y == round(b) + beside),
            "border": near & (x > a + cut),
            "slanted border": near & (x - a + 0.7 * (y - b) > cut),
            "cross": near & ((x == round(a) + 1) | (y == round(b) - 1)),
            "pixel": (x == round(a)) & (y == round(b)),
        }.get(kind, False)
    return bad


def false_detections(options, model):
    """Rows: detections per Mpix in empty frames with bad pixels."""
    threshold = model.card.calibration.threshold_for(FALSE_RATE)
    shape = (options.side, options.side)
    rng = stream(options.seed, len(KINDS))
    stripes = np.zeros(shape, bool)
    stripes[:, 5::40] = True
    wide = stripes | np.roll(stripes, 1, axis=1) | np.roll(stripes, 2, axis=1)
    cases = {
        "none": np.zeros(shape, bool), "every 40th column": stripes, "3 of 40 columns": wide,
        "a twentieth, scattered": rng.random(shape) < 0.05,
    }  # fmt: skip
    rows = []
    for name, bad in cases.items():
        data = rng.normal(SKY, VARIANCE**0.5, shape).astype(np.float32)
        parts = separate(data, mask=bad, model=model, maps=("significance",))
        seen = np.where(bad, -np.inf, parts.significance)
        peaks = (seen == maximum_filter(seen, 5)) & (seen > threshold)
        rows.append({"bad pixels": name, "found": np.count_nonzero(peaks) / bad.size * 1e6})
    return rows


if __name__ == "__main__":
    main()
