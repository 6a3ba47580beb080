"""How much of the light of stars of one to two pixels the sources keep, among hot pixels and cosmic rays.

    python benchmarks/quality/sharp_stars.py --json results/sharp_stars.json

Stars of 20 to 3000 sky rms in their brightest pixel, integrated over pixels, Gaussian or Moffat (beta 3), on a flat sky
with photon noise; 15 or 150 of them in 320 x 320 pixels; without defects, or with as many hot pixels (half of them leak
into a neighbour) and short tracks of cosmic rays of the same brightness. `kept` is the sum of the sources over the true
light within 1.5 pixels and 1 FWHM of a star: the median, and what a tenth of the stars does not reach. `defects left` is
the median part of a defect's light in the sources. `FWHM` is the measured one, in pixels.

*Bayer*: Gaussian stars of 2.4 to 4 pixels FWHM, 1.2 to 2 in the pixels of one colour, behind a mosaic of filters.
"""

from functools import partial
from itertools import product
from time import perf_counter

import numpy as np
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.background import separate
from bgrem.processing.mosaics import separate_mosaic

WIDTHS, MOSAIC_WIDTHS = (1.1, 1.2, 1.35, 1.5, 1.65, 1.8), (2.4, 3.0, 4.0)
PROFILES, COUNTS = ("Gaussian", "Moffat"), (15, 150)
SIDE, LEVEL, ELECTRONS, BETA = 320, 1000.0, 4.0, 3.0
HEIGHTS = (20.0, 3000.0)  # sky rms
FINE, HALF = 7, 12  # samples along a pixel's side; half width of a star's image in pixels
RGGB = ((0.6, 1.0), (1.0, 0.45))


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument(
        "--widths", type=float, nargs="+", default=list(WIDTHS), help="FWHM of the stars in pixels"
    )
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    run = partial(separate, model=model, maps=())
    rows, mosaics = [], []
    for n, (profile, fwhm, count, dirty) in enumerate(
        product(PROFILES, options.widths, COUNTS, (False, True))
    ):
        show_progress(options, f"{profile}, FWHM {fwhm}, {count} stars")
        frame = Frame(stream(options.seed, 19, n), profile, fwhm, count, dirty)
        what = {"profile": profile, "px": fwhm, "stars": count, "defects": dirty}
        rows.append(what | frame.measured(run(frame.data)))
    for n, (fwhm, count) in enumerate(product(MOSAIC_WIDTHS, COUNTS)):
        show_progress(options, f"Bayer, FWHM {fwhm}, {count} stars")
        frame = Frame(stream(options.seed, 20, n), "Gaussian", fwhm, count, False, RGGB)
        parts = separate_mosaic(partial(separate, model=model), (2, 2), frame.data)
        mosaics.append({"px": fwhm, "stars": count} | frame.measured(parts))
    finish(options, {"sharp stars": rows, "Bayer": mosaics}, model=model, began=began)


class Frame:
    """Stars and defects on a flat sky, and what is in them."""

    def __init__(self, rng, profile, fwhm, count, dirty, gain=((1.0,),)):
        self.gain = np.tile(gain, [SIDE // n for n in np.shape(gain)])
        self.rms = np.sqrt(LEVEL / ELECTRONS)
        self.reach = 1.5 + fwhm
        self.light = np.zeros((SIDE, SIDE))
        self.stars = rng.uniform(HALF + 2, SIDE - HALF - 3, (count, 2))
        for place in self.stars:
            self.light += self._star(place, profile, fwhm, self._height(rng))
        self.light *= self.gain
        self.defects = np.zeros((SIDE, SIDE))
        self.hits = [self._hit(rng) for _ in range(2 * count * dirty)]
        mean = LEVEL * self.gain + self.light
        noise = np.sqrt(mean / ELECTRONS) * rng.normal(size=mean.shape)
        self.data = (mean + noise + self.defects).astype(np.float32)

    def _height(self, rng):
        return self.rms * np.exp(rng.uniform(*np.log(HEIGHTS)))

    def _star(self, place, profile, fwhm, height):
        """The image of a star, integrated over pixels, its brightest pixel of a height."""
        middle = np.rint(place).astype(int)
        fine = (np.arange((2 * HALF + 1) * FINE) + 0.5) / FINE - 0.5 - HALF
        y, x = (fine - (p - m) for p, m in zip(place, middle, strict=True))
        squared = (y[:, None] ** 2 + x[None, :] ** 2) * 4 / fwhm**2
        if profile == "Gaussian":
            sampled = 0.5**squared
        else:
            sampled = (1 + squared * (2 ** (1 / BETA) - 1)) ** -BETA
        stamp = sampled.reshape(2 * HALF + 1, FINE, 2 * HALF + 1, FINE).mean(axis=(1, 3))
        image = np.zeros((SIDE, SIDE))
        top, left = middle - HALF
        image[top : top + 2 * HALF + 1, left : left + 2 * HALF + 1] = height / stamp.max() * stamp
        return image

    def _hit(self, rng):
        """Add a hot pixel, or a track of 2 to 8 pixels; its pixels."""
        y, x = rng.integers(10, SIDE - 10, 2)
        if rng.random() < 0.5:
            rows, columns = np.array([y, y]), np.array([x, x + 1])
            light = np.array([1.0, rng.uniform(0, 0.5) * (rng.random() < 0.5)])
        else:
            length, angle = rng.uniform(2, 8), rng.uniform(0, np.pi)
            along = np.arange(0, length, 0.5)
            rows = np.rint(y + along * np.sin(angle)).astype(int)
            columns = np.rint(x + along * np.cos(angle)).astype(int)
            light = rng.uniform(0.5, 1.0, along.size)
        np.add.at(self.defects, (rows, columns), self._height(rng) * light)
        return rows, columns

    def measured(self, parts):
        """One line of the table."""
        y, x = np.indices(self.light.shape)
        kept = []
        for row, column in self.stars:
            near = np.hypot(y - row, x - column) < self.reach
            if not self.defects[near].any():
                kept.append(parts.sources[near].sum() / self.light[near].sum())
        line = {"kept": float(np.median(kept)), "a tenth below": float(np.quantile(kept, 0.1))}
        known = parts.provenance.get("fwhm_from") != "assumed"
        line["FWHM"] = float(parts.provenance["fwhm"]) if known else np.nan
        left = [parts.sources[hit].sum() / self.defects[hit].sum() for hit in self.hits]
        return line | {"defects left": float(np.median(left)) if left else np.nan}


if __name__ == "__main__":
    main()
