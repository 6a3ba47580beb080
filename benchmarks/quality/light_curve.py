"""What the background adds to the scatter of constant stars over the exposures of a field.

    python benchmarks/quality/light_curve.py --json results/light_curve.json

Twelve exposures of one field, each moved by up to 10 pixels along each axis in steps of a fifth, with other noise and
another sky: its level differs by up to 30 %, its slope is up to 6 sky rms in 1000 pixels, and the glow along one edge,
which falls to 1 / e in 80 pixels, has 2 to 8 sky rms. The stars (Moffat, beta 3, S/N 10 to 300 in an exposure)
stand in the *glow*, or by turns

- *alone*;
- beside a *neighbour*, 1.2 to 3 FWHM away, of 0.3 to 3 times the light;
- beside a bad *column* of the detector, of 48 pixels and 3 to 30 sky rms; every second one is in the mask;
- beside a cosmic *ray*, another one in each exposure, of one to three pixels and 3 to 300 sky rms;
- on a *galaxy*, an exponential disc with a half-light radius of 6 to 20 pixels and 1 to 30 sky rms in its middle.

There are 500 other stars per Mpix of S/N 1 and more. Each star is measured in a circle of radius 1 FWHM at its true
place, on data - background, on the sources (for information: they have less noise), and on data - background of
SExtractor's default mesh. Exposures in which a bad column touches the circle are left out, for all. The tables give the
standard deviation over the exposures over that of data - true sky: the median of the stars, and what a tenth of them
exceeds.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter

import numpy as np
from frames import PLAIN, add_hits, between
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.background import separate
from bgrem.detection.photometry import aperture_fluxes
from bgrem.detection.sextractor import subtract_sky
from bgrem.masks.areas import grown, inside
from bgrem.simulate.drawing import observe, psf_of
from bgrem.simulate.optics import PHASES
from bgrem.simulate.scene import Scene
from bgrem.simulate.skies import background_structure

STREAM = 23
WIDTHS = (2.0, 3.0, 4.5)
SNR, BINS = (10.0, 300.0), (10.0, 20.0, 50.0, 100.0, 300.0)
AROUND, GLOW = ("alone", "neighbour", "column", "ray", "galaxy"), "glow"
BORDER, PITCH, JITTER = 40, 56, 8.0  # px: where stars are placed
FAINT, SLOPE = 500.0, 0.8  # other stars per Mpix, and the slope of their cumulative counts
REACH = 10  # px: largest shift
LEVELS, GRADIENT = (0.7, 1.3), 6.0  # of the sky; sky rms in 1000 px
GLOW_WIDTH, GLOW_HEIGHT = 80.0, (2.0, 8.0)  # px; sky rms
DISTANCE, RATIO = (1.2, 3.0), (0.3, 3.0)  # of a neighbour, FWHM; its light
COLUMN, COLUMN_HEIGHT = 48, (3.0, 30.0)
RAY_HEIGHT, RAY_FROM = (3.0, 300.0), 4.0  # sky rms; px beyond the circle, more than a ray is long
DISC_RADIUS, DISC_HEIGHT = (6.0, 20.0), (1.0, 30.0)
DISC_SCALE = 1.678  # half-light radius of an exponential disc in units of its scale length
LEAST_EXPOSURES = 6
TRUE, METHODS = "true sky", ("data - background", "sources", "SExtractor")


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--exposures", type=int, default=12, help="of a field (default: 12)")
    parser.add_argument("--side", type=int, default=1536, help="of an exposure in pixels (1536)")
    parser.add_argument(
        "--fwhm", type=float, nargs="+", default=list(WIDTHS), help="of the stars, a field for each"
    )
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    rows, seen = [], []
    for fwhm in options.fwhm:
        numbers = options.seed, STREAM, int(10 * fwhm)
        field, fluxes = Field(fwhm, options.side, stream(*numbers)), []
        for i in range(options.exposures):
            show_progress(options, f"FWHM {fwhm:g}, exposure {i + 1}/{options.exposures}")
            fluxes.append(measured(field.exposed(stream(*numbers, i + 1)), fwhm, model))
        seen.append(Scatter(field, fluxes))
        rows += [{"FWHM": fwhm} | row for row in by_brightness(seen[-1])]
    tables = {"scatter over that with the true sky, by S/N": rows}
    tables["by what is beside the star"] = list(by_surroundings(seen))
    finish(options, tables, model=model, began=began)


# ---- a field and its exposures ---------------------------------------------------------


@dataclass(frozen=True)
class Exposure:
    """An image, the mask of it, its true sky, the places of the stars, and which may be measured."""

    data: np.ndarray
    mask: np.ndarray
    sky: np.ndarray
    x: np.ndarray
    y: np.ndarray
    free: np.ndarray


class Field:
    """Stars, what is beside them, and the bad columns of the detector."""

    def __init__(self, fwhm, side, rng):
        self.scene = Scene(shape=(side, side), fwhm=fwhm, **PLAIN)
        self.psf = psf_of(self.scene)
        line = np.arange(BORDER, side - BORDER + 1, PITCH)
        x, y = (axis.ravel() for axis in np.meshgrid(line, line))
        # Places between pixels are those that the PSF is drawn at.
        self.x, self.y = (
            np.rint((axis + rng.uniform(-JITTER, JITTER, axis.size)) * PHASES) / PHASES
            for axis in (x, y)
        )
        self.snr = between(rng, SNR, x.size)
        self.around = np.array(AROUND)[rng.permutation(x.size) % len(AROUND)]
        self.around[self.x < 1.5 * GLOW_WIDTH] = GLOW
        self._draw_others(rng)
        self._draw_discs(rng)
        self._draw_columns(rng)

    def places(self, around):
        """The stars that something is beside."""
        return self.x[self.around == around], self.y[self.around == around]

    def _draw_others(self, rng):
        """Neighbours, and the stars of the field."""
        (x, y), snr = self.places("neighbour"), self.snr[self.around == "neighbour"]
        dx, dy = _around(rng, self.scene.fwhm * np.array(DISTANCE), x.size)
        side = self.scene.shape[0]
        count = rng.poisson(FAINT * side**2 / 1e6)
        faint_x, faint_y = rng.uniform(-REACH, side + REACH, (2, count))
        faint = np.minimum(rng.uniform(1e-6, 1.0, count) ** (-1 / SLOPE), SNR[1])
        self.others = np.concatenate([x + dx, faint_x]), np.concatenate([y + dy, faint_y])
        self.other_snr = np.concatenate([snr * between(rng, RATIO, x.size), faint])

    def _draw_discs(self, rng):
        """Galaxies under stars: place, scale length, axis ratio, direction and height of each."""
        x, y = self.places("galaxy")
        radius = between(rng, DISC_RADIUS, x.size)
        dx, dy = _around(rng, (0.3, 1.5), x.size)
        self.discs = np.stack(
            [x + radius * dx, y + radius * dy, radius / DISC_SCALE, rng.uniform(0.4, 1, x.size),
             rng.uniform(0, np.pi, x.size), between(rng, DISC_HEIGHT, x.size)], axis=1
        )  # fmt: skip

    def _draw_columns(self, rng):
        """What the bad columns add, in sky rms, where they are, and which of them are in the mask."""
        self.added = np.zeros(self.scene.shape)
        self.mask = np.zeros(self.scene.shape, bool)
        x, y = self.places("column")
        distance = rng.choice([-1, 1], x.size) * rng.uniform(*DISTANCE, x.size) * self.scene.fwhm
        for i, height in enumerate(between(rng, COLUMN_HEIGHT, x.size)):
            row, column = round(y[i]), round(x[i] + distance[i])
            part = slice(max(row - COLUMN // 2, 0), row + COLUMN // 2), column
            self.added[part] = height
            self.mask[part] = i % 2 == 0
        self.touched = grown(self.added > 0, self.scene.fwhm + 1)

    def exposed(self, rng):
        """Draw an exposure."""
        dx, dy = rng.integers(-REACH * PHASES, REACH * PHASES + 1, 2) / PHASES
        scene = replace(self.scene, sky=self.scene.sky * rng.uniform(*LEVELS),
                        gradient=rng.uniform(0, GRADIENT))  # fmt: skip
        unit = np.float32(self.scene.sky_rms)
        across = np.exp(-np.arange(scene.shape[1]) / GLOW_WIDTH) * rng.uniform(*GLOW_HEIGHT)
        sky = scene.sky + unit * (background_structure(scene, rng) + across.astype(np.float32))
        seen = observe(scene, self._light(dx, dy), sky, rng)
        x, y = self.x + dx, self.y + dy
        rays = self._rays(dx, dy, rng)
        data = seen.data + unit / np.float32(scene.gain) * (self.added + rays)
        free = ~inside(self.touched, x, y)
        return Exposure(
            data.astype(np.float32), self.mask, sky / np.float32(scene.gain), x, y, free
        )

    def _light(self, dx, dy):
        """Expected electrons of stars and galaxies."""
        light = np.zeros(self.scene.shape, np.float32)
        sharpness = np.linalg.norm(self.psf.image.astype(np.float64))
        for (x, y), snr in (((self.x, self.y), self.snr), (self.others, self.other_snr)):
            steps = (np.rint(place * PHASES).astype(np.int64) for place in (x + dx, y + dy))
            flux = snr * self.scene.sky_rms / sharpness
            self.psf.place(light, *steps, flux, faint=0.02 * self.scene.sky_rms)
        for x, y, *shape in self.discs:
            add_disc(light, x + dx, y + dy, *shape, unit=self.scene.sky_rms, fwhm=self.scene.fwhm)
        return light

    def _rays(self, dx, dy, rng):
        """What cosmic rays add, in sky rms."""
        rays = np.zeros(self.scene.shape)
        x, y = self.places("ray")
        fwhm = self.scene.fwhm
        away = _around(rng, (fwhm + RAY_FROM, 3 * fwhm + RAY_FROM), x.size)
        columns, rows = (
            np.rint(place).astype(int) for place in (x + dx + away[0], y + dy + away[1])
        )
        add_hits(rays, rng, rows, columns, between(rng, RAY_HEIGHT, x.size))
        return rays


def _around(rng, limits, count):
    """Offsets along x and y of a length between limits, in any direction."""
    length, angle = rng.uniform(*limits, count), rng.uniform(0, 2 * np.pi, count)
    return length * np.cos(angle), length * np.sin(angle)


def add_disc(image, x, y, scale, ratio, angle, height, *, unit, fwhm):
    """Add an exponential disc to an image, in place; the seeing rounds off its middle."""
    half = int(8 * scale)
    rows, columns = (
        slice(max(round(middle) - half, 0), max(round(middle) + half, 0)) for middle in (y, x)
    )
    row, column = np.ogrid[: image.shape[0], : image.shape[1]]
    row, column = row[rows] - y, column[:, columns] - x
    along = column * np.cos(angle) + row * np.sin(angle)
    across = (row * np.cos(angle) - column * np.sin(angle)) / ratio
    distance = np.sqrt(along**2 + across**2 + (fwhm / FWHM_PER_SIGMA) ** 2)
    image[rows, columns] += (unit * height * np.exp(-distance / scale)).astype(np.float32)


# ---- photometry ------------------------------------------------------------------------


def measured(exposure, fwhm, model):
    """Fluxes of the stars of an exposure by method; NaN where a bad column touches the circle."""
    data = exposure.data
    parts = separate(data, mask=exposure.mask, model=model, maps=())
    images = {
        TRUE: data - exposure.sky,
        "data - background": data - parts.background,
        "sources": parts.sources,
        "SExtractor": subtract_sky(data, mask=exposure.mask).residual,
    }
    return {
        name: np.where(exposure.free, aperture_fluxes(image, exposure.x, exposure.y, fwhm), np.nan)
        for name, image in images.items()
    }


class Scatter:
    """Of each star of a field: its S/N, what is beside it, and its scatter over that with the true sky."""

    def __init__(self, field, fluxes):
        deviation = {name: deviations([flux[name] for flux in fluxes]) for name in (TRUE, *METHODS)}
        self.snr, self.around = field.snr, field.around
        self.ratios = {name: deviation[name] / deviation[TRUE] for name in METHODS}
        self.known = np.isfinite(deviation[TRUE])


def deviations(fluxes):
    """Standard deviation of each star over exposures; NaN where too few of them show it."""
    fluxes = np.stack(fluxes)
    count = np.isfinite(fluxes).sum(axis=0)
    squared = np.square(fluxes - np.nansum(fluxes, axis=0) / np.maximum(count, 1))
    variance = np.nansum(squared, axis=0) / np.maximum(count - 1, 1)
    return np.where(count >= min(LEAST_EXPOSURES, len(fluxes)), np.sqrt(variance), np.nan)


def by_brightness(scatter):
    """Rows: bins of S/N."""
    for low, high in pairwise(BINS):
        chosen = (scatter.snr >= low) & (scatter.snr < high) & scatter.known
        yield {"S/N": f"{low:g}-{high:g}"} | quantiles(
            {name: ratio[chosen] for name, ratio in scatter.ratios.items()}
        )


def by_surroundings(seen):
    """Rows: what is beside the stars of all fields."""
    for around in (*AROUND, GLOW):
        parts = [(one, (one.around == around) & one.known) for one in seen]
        yield {"beside": around} | quantiles(
            {name: np.concatenate([one.ratios[name][chosen] for one, chosen in parts])
             for name in METHODS}
        )  # fmt: skip


def quantiles(ratios):
    """Columns: the median and what a tenth exceeds, of each method."""
    columns = {"stars": len(ratios[METHODS[0]])}
    for name, ratio in ratios.items():
        columns[name] = float(np.median(ratio)) if ratio.size else np.nan
        columns["a tenth above" if name == METHODS[0] else f"{name}, a tenth above"] = (
            float(np.quantile(ratio, 0.9)) if ratio.size else np.nan
        )
    return columns


if __name__ == "__main__":
    main()
