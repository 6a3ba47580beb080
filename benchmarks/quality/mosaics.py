"""How much of the light of stars the sources keep in mosaics of colour filter arrays.

    python benchmarks/quality/mosaics.py --json results/mosaics.json

Stars on a sky of 1000 counts, of four electrons each, behind filters of gain 0.6 (R), 1 (G) and 0.45 (B).
A star of colour c has 2**c times the light in red and 2**-c times in blue, or the reverse. Light is counted
within 1.2 FWHM, bright stars have more than 1e4 counts. The error of the background and the error of the
rms are in units of the noise of each pixel. "as mono" takes the mosaic for any image, "planes" separates
each position in the cell alone.
"""

from functools import partial
from itertools import product
from time import perf_counter

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.background import separate
from bgrem.detection.psf import GAUSSIAN_FWHM
from bgrem.processing.mosaics import separate_mosaic
from bgrem.sky.mosaic_sky import phases_of

PATTERNS = {
    "X-Trans": ("GGRGGB", "GGBGGR", "BRGRBG", "GGBGGR", "GGRGGB", "RBGBRG"),
    "Bayer": ("RG", "GB"),
}
GAIN = {"R": 0.6, "G": 1.0, "B": 0.45}
LEVEL, ELECTRONS = 1000.0, 4.0
BRIGHT = 1e4
WIDTHS, COLOURS = (3.0, 4.5, 6.0), (0, 1)


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--side", type=int, default=396, help="of the frames (default: 396 pixels)")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows = []
    for name, fwhm, colour in product(PATTERNS, WIDTHS, COLOURS):
        show_progress(options, f"{name}, FWHM {fwhm}, colour {colour}")
        rng = stream(options.seed, sorted(PATTERNS).index(name), int(10 * fwhm), colour)
        frame = Frame(PATTERNS[name], options.side, fwhm, colour, rng)
        rows.append({"mosaic": name, "FWHM": fwhm, "colour": colour, **frame.measured(model)})
    finish(options, {"light kept in mosaics": rows}, model=model, began=began)


class Frame:
    """A mosaic, and what is in it."""

    def __init__(self, pattern, side, fwhm, colour, rng):
        self.cell, self.fwhm = (len(pattern), len(pattern[0])), fwhm
        copies = [-(-side // n) for n in self.cell]
        letters = np.tile([list(row) for row in pattern], copies)[:side, :side]
        self.gain = np.vectorize(GAIN.get)(letters)
        self.places = np.indices((side, side))
        step, sigma = 60, fwhm / GAUSSIAN_FWHM
        self.stars, light = [], np.zeros((side, side))
        for y, x in product(np.arange(step / 2, side - step / 3, step), repeat=2):
            y, x = (y, x) + rng.uniform(-4, 4, 2)
            flux, tint = 10 ** rng.uniform(3.5, 5.5), 2.0 ** (colour * rng.choice([-1, 1]))
            profile = np.exp(-self._squared_distance(y, x) / 2 / sigma**2) / (2 * np.pi * sigma**2)
            light += (
                flux * profile * np.select([letters == "R", letters == "B"], [tint, 1 / tint], 1)
            )
            self.stars.append((y, x, flux))
        self.light = light * self.gain
        self.rms = np.sqrt(LEVEL * self.gain / ELECTRONS)
        mean = self.light + LEVEL * self.gain
        noise = np.sqrt(mean / ELECTRONS) * rng.normal(size=mean.shape)
        self.data = (mean + noise).astype(np.float32)

    def _squared_distance(self, y, x):
        return (self.places[0] - y) ** 2 + (self.places[1] - x) ** 2

    def measured(self, model):
        """One line of the table."""
        one = partial(separate, model=model, maps=())
        parts = separate_mosaic(partial(separate, model=model), self.cell, self.data)
        planes = np.empty_like(self.data)
        for phase in phases_of(self.cell):
            planes[phase] = one(self.data[phase]).sources
        bright, least, faint = self.kept(parts.sources)
        level = (parts.background - LEVEL * self.gain) / self.rms
        return {
            "bright": bright,
            "least": least,
            "faint": faint,
            "background": float(np.sqrt(np.mean(level**2))),
            "rms": float(np.median(abs(parts.rms / self.rms - 1))),
            "as mono": self.kept(one(self.data).sources)[0],
            "planes": self.kept(planes)[0],
        }

    def kept(self, sources):
        """Part of the light of bright stars, median and least, and of faint ones."""
        shares = {True: [], False: []}
        for y, x, flux in self.stars:
            inside = self._squared_distance(y, x) < (1.2 * self.fwhm) ** 2
            shares[flux > BRIGHT].append(sources[inside].sum() / self.light[inside].sum())
        bright, faint = (np.array(shares[key] or [np.nan]) for key in (True, False))
        return float(np.median(bright)), float(bright.min()), float(np.median(faint))


if __name__ == "__main__":
    main()
