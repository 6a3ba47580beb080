"""The catalogue against the truth: fluxes, errors, places, close pairs, and time.

    python benchmarks/quality/catalogue.py --json results/catalogue.json

*Frames* are drawn here, not by `bgrem.simulate`, whose places are on a grid of a fifth of a pixel: elliptical Moffat
stars at any place, integrated over the pixels, and exponential discs, on a slope, with photon noise of a gain of 2 and
read noise. In frames with *correlated noise* the noise is averaged over 2 x 2 pixels after shifts of half a pixel, as
bilinear resampling does. `crowded` has 6 times as many stars.

*Photometry*: of stars with less than 1 % of light of others within 1.5 FWHM, by true S/N in a matched filter: median
of measured over true flux, scatter (half of the central 68 %), and the same of the pull (measured - true) / error, for
FLUX_PSF, FLUX_AUTO, and the largest FLUX_APER. SExtractor's FLUX_AUTO (default run) and photutils' PSF photometry with
the true PSF, at the places of the catalogue, measure the same stars.

*Astrometry*: rms of x and y over the Cramer-Rao bound of the true PSF (Mendez et al. 2013, PASP 125, 580), the mean
error, and the pull.

*Pairs*: two stars of a flux ratio at a distance; the brighter has S/N 100. The part of pairs of which both are listed
within 0.35 FWHM, or a quarter of their distance, by bgrem, by SExtractor's default, and by photutils' DAOStarFinder.

*Time* of the catalogue over that of the separation, and the number of sources.
"""

from time import perf_counter

import numpy as np
import sep
from report_card import add_seed, finish, make_parser, model_of, show_progress, stream
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.background import separate
from bgrem.detection.photometry import auto_fluxes
from bgrem.detection.sextractor import DEFAULT_AREA, DEFAULT_CONV, DEFAULT_THRESHOLD, subtract_sky

GAIN, SKY, READ_NOISE = 2.0, 200.0, 8.0  # electrons per unit, electrons, electrons
BETA = 3.5
BINS = ((5, 10), (10, 20), (20, 50), (50, 100), (100, 300), (300, 1000))
#: FWHM in pixels, stars per Mpix, discs per Mpix, whether the noise is correlated.
KINDS = {
    "FWHM 1.6": (1.6, 2000.0, 300.0, False), "FWHM 2.5": (2.5, 2000.0, 300.0, False),
    "FWHM 4.5": (4.5, 1000.0, 200.0, False), "correlated": (3.5, 1500.0, 200.0, True),
    "crowded": (3.0, 12000.0, 0.0, False),
}  # fmt: skip
CLEAN, CLEAN_RADIUS = 0.01, 1.5  # light of others over the star's, within this radius in FWHM
RATIOS, DISTANCES = (1.0, 2.0, 5.0), (0.8, 1.0, 1.25, 1.5)
PAIR_SNR, PAIRS_IN_FRAME = 100.0, 100
FINE = 5  # samples per pixel and axis of a star
FAINTEST, SLOPE = 2.0, 0.7  # S/N of the faintest star, slope of the cumulative counts


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.add_argument("--side", type=int, default=1024, help="of a frame in pixels")
    parser.add_argument("--frames", type=int, default=3, help="of each kind (default: 3)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND",
                        help=", ".join(KINDS))  # fmt: skip
    options = parser.parse_args(argv)
    began, model = perf_counter(), model_of(options)
    photometry, astrometry, time = [], [], []
    for k, kind in enumerate(options.kinds):
        stars, seconds = [], []
        for i in range(options.frames):
            show_progress(options, f"{kind} {i + 1}/{options.frames}")
            frame = draw_frame(stream(options.seed, k, i), options.side, *KINDS[kind])
            measured, took = measure(frame, model)
            stars.append(measured)
            seconds.append(took)
        together = {name: np.concatenate([one[name] for one in stars]) for name in stars[0]}
        photometry += photometry_rows(kind, together)
        astrometry += astrometry_rows(kind, together)
        time.append(dict(zip(("frames", "separation, s", "catalogue, s", "sources"),
                             (kind, *np.mean(seconds, axis=0)), strict=True)))  # fmt: skip
    show_progress(options, "pairs")
    tables = {
        "photometry: median of measured over true, scatter, scatter of the pull": photometry,
        "astrometry": astrometry, "both of a pair are listed": pairs(options, model), "time": time,
    }  # fmt: skip
    finish(options, tables, model=model, began=began)


# ---- frames ----------------------------------------------------------------------------------------------------


class Frame:
    """A drawn frame, its light without noise, and its stars: x, y, flux, snr, bound (px)."""

    def __init__(self, data, light, stars, fwhm):
        self.data, self.light, self.stars, self.fwhm = data, light, stars, fwhm


def draw_frame(rng, side, fwhm, density, discs, correlated, stars=None):
    """A frame of a kind; `stars` are x, y and S/N, drawn if not given."""
    psf = FinePSF(fwhm)
    sigma = np.hypot(np.sqrt(SKY), READ_NOISE)
    if stars is None:
        stars = draw_stars(rng, side, density)
    x, y, snr = stars
    flux = snr * sigma * np.sqrt(psf.noise_pixels)
    light = np.zeros((side, side))
    for star in zip(x, y, flux, strict=True):
        psf.add(light, *star)
    for _ in range(rng.poisson(discs * side**2 / 1e6)):
        add_disc(light, rng, fwhm, sigma)
    ys, xs = np.indices(light.shape) / side
    sky = SKY * (1 + 0.1 * xs - 0.05 * ys)
    noise = rng.poisson(light + sky) - light - sky + rng.normal(0, READ_NOISE, light.shape)
    if correlated:
        noise = (
            noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, 1, (0, 1))
        ) / 4
    table = {"x": x, "y": y, "flux": flux / GAIN, "snr": snr, "bound": psf.bound(flux, sigma)}
    return Frame((light + sky + noise) / GAIN, light / GAIN, table, fwhm)


def draw_stars(rng, side, density):
    count = rng.poisson(density * side**2 / 1e6)
    snr = np.minimum(FAINTEST * rng.random(count) ** (-1 / SLOPE), 3000.0)
    return *rng.uniform(5, side - 6, (2, count)), snr


class FinePSF:
    """A Moffat star, integrated over pixels, tabulated on a fine grid."""

    def __init__(self, fwhm):
        self.half = int(np.ceil(8 * fwhm))
        n = (self.half + 1) * FINE * 2 + 1
        grid = (np.arange(n) - n // 2) / FINE
        core = fwhm / 2 / np.sqrt(2 ** (1 / BETA) - 1)
        fine = (1 + (np.add.outer(grid**2 / 0.97**2, grid**2 * 0.97**2)) / core**2) ** -BETA
        kernel = np.ones(FINE) / FINE
        for axis in (0, 1):  # the pixel
            fine = np.apply_along_axis(np.convolve, axis, fine, kernel, mode="same")
        self.fine, self.middle = fine, n // 2
        self.fine /= self.at(0.0, 0.0).sum()
        stamp = self.at(0.0, 0.0)
        self.noise_pixels = 1 / np.square(stamp).sum()
        step = 0.02
        slope = (self.at(0.0, step) - self.at(0.0, -step)) / (2 * step)
        self.slope_square = np.square(slope).sum()
        self.stamp, self.slope = stamp, slope

    def at(self, dy, dx):
        """The stamp with its centre off the middle by dy, dx."""
        grid = np.arange(-self.half, self.half + 1)
        rows, columns = (self.middle + FINE * (grid - d) for d in (dy, dx))
        return map_coordinates(self.fine, np.meshgrid(rows, columns, indexing="ij"), order=3)

    def add(self, image, x, y, flux):
        row, column = round(y), round(x)
        stamp, half = flux * self.at(y - row, x - column), self.half
        ny, nx = image.shape
        rows, columns = (slice(max(0, c - half), min(n, c + half + 1))
                         for c, n in ((row, ny), (column, nx)))  # fmt: skip
        image[rows, columns] += stamp[
            rows.start - row + half : rows.stop - row + half,
            columns.start - column + half : columns.stop - column + half,
        ]

    def bound(self, flux, sigma):
        """Cramer-Rao bound of x of a star of a flux, with its own photons, px."""
        variance = sigma**2 + np.multiply.outer(flux, self.stamp)
        return 1 / (flux * np.sqrt((self.slope**2 / variance).sum(axis=(1, 2))))


def add_disc(light, rng, fwhm, sigma):
    """An exponential disc somewhere, behind a Gaussian seeing."""
    side = len(light)
    radius = np.exp(rng.uniform(np.log(1.0), np.log(6.0)))
    snr = min(10.0 * rng.random() ** (-1 / SLOPE), 500.0)
    half = int(8 * np.hypot(radius, fwhm))
    grid = np.arange(-half, half + 1)
    angle, ratio = rng.uniform(0, np.pi), rng.uniform(0.3, 1.0)
    along = np.add.outer(-np.sin(angle) * grid, np.cos(angle) * grid)
    across = np.add.outer(np.cos(angle) * grid, np.sin(angle) * grid) / ratio
    soft = fwhm / FWHM_PER_SIGMA
    image = np.exp(-1.678 * np.sqrt(along**2 + across**2 + soft**2) / radius)
    flux = snr * sigma * np.sqrt(1 / np.square(image / image.sum()).sum())
    row, column = rng.integers(half, side - half, 2) if side > 2 * half else (side // 2, side // 2)
    rows, columns = slice(row - half, row + half + 1), slice(column - half, column + half + 1)
    light[rows, columns] += flux * image / image.sum()


# ---- measurements ----------------------------------------------------------------------------------------------


def measure(frame, model):
    """Columns of the clean stars of a frame that the catalogue lists, and the times and the number of sources."""
    began = perf_counter()
    parts = separate(frame.data, model=model, maps=("significance",))
    middle = perf_counter()
    table = parts.catalog(gain=GAIN)
    seconds = middle - began, perf_counter() - middle, len(table)
    star, seen = matched(frame.stars, table["x"].value, table["y"].value, frame.fwhm)
    clean = is_clean(frame)[star]
    star, seen = star[clean], seen[clean]
    table = table[seen]
    out = {name: values[star] for name, values in frame.stars.items()}
    for name in ("PSF", "AUTO"):
        out[name], out[f"{name} error"] = table[f"FLUX_{name}"], table[f"FLUXERR_{name}"]
    out["APER"], out["APER error"] = table["FLUX_APER"][:, 2], table["FLUXERR_APER"][:, 2]
    for axis in "xy":
        out[f"d{axis}"] = table[axis].value - out[axis]
        out[f"{axis} error"] = table[f"ERR{axis.upper()}_IMAGE"].value
    out |= rivals(frame, parts, table)
    return out, seconds


def matched(stars, x, y, fwhm):
    """Numbers of stars and of the listed sources nearest to them, within half a FWHM or a pixel."""
    tree = cKDTree(np.column_stack([x, y]))
    distance, nearest = tree.query(np.column_stack([stars["x"], stars["y"]]))
    star = np.flatnonzero(distance < max(1.0, 0.5 * fwhm))
    return star, nearest[star]


def is_clean(frame):
    """Stars with little light of others around, away from the border."""
    stars, radius = frame.stars, CLEAN_RADIUS * frame.fwhm
    psf = FinePSF(frame.fwhm)
    alone = np.zeros((2 * psf.half + 1,) * 2)
    psf.add(alone, psf.half, psf.half, 1.0)
    part = sep.sum_circle(alone, [psf.half], [psf.half], radius, subpix=0)[0][0]
    own = stars["flux"] * part
    whole, _, _ = sep.sum_circle(frame.light, stars["x"], stars["y"], radius, subpix=0)
    side, edge = len(frame.data), 5 * frame.fwhm
    inside = (np.minimum(stars["x"], stars["y"]) > edge) & (
        np.maximum(stars["x"], stars["y"]) < side - 1 - edge
    )
    return inside & (whole - own < CLEAN * own)


def rivals(frame, parts, table):
    """SExtractor's FLUX_AUTO and photutils' PSF fluxes of the listed stars; NaN where there is none."""
    subtracted = subtract_sky(frame.data)
    objects = sextractor_objects(subtracted)
    x, y = table["x"].value, table["y"].value
    tree = cKDTree(np.column_stack([objects["x"], objects["y"]]))
    distance, nearest = tree.query(np.column_stack([x, y]))
    auto = auto_fluxes(subtracted.residual, objects)[nearest]
    return {
        "SExtractor": np.where(distance < max(1.0, 0.5 * frame.fwhm), auto, np.nan),
        "photutils": photutils_fluxes(frame, parts, x, y),
    }


def sextractor_objects(subtracted):
    return sep.extract(
        subtracted.residual, DEFAULT_THRESHOLD * subtracted.global_rms, minarea=DEFAULT_AREA,
        filter_kernel=DEFAULT_CONV, filter_type="conv", clean=True,
    )  # fmt: skip


def photutils_fluxes(frame, parts, x, y):
    """PSFPhotometry with the true PSF, at given places to begin with."""
    from astropy.table import Table
    from photutils.psf import ImagePSF, PSFPhotometry

    psf = FinePSF(frame.fwhm)
    fine = psf.fine / psf.fine.sum() * FINE**2
    model = ImagePSF(fine, oversampling=FINE)
    size = 2 * int(np.ceil(1.5 * frame.fwhm)) + 1
    fit = PSFPhotometry(model, (size, size), aperture_radius=frame.fwhm)
    result = fit(frame.data - parts.background, init_params=Table({"x": x, "y": y}))
    return np.asarray(result["flux_fit"])


# ---- tables ----------------------------------------------------------------------------------------------------


def photometry_rows(kind, stars):
    rows = []
    for low, high in BINS:
        chosen = (stars["snr"] >= low) & (stars["snr"] < high)
        if np.count_nonzero(chosen) < 10:
            continue
        row = {"frames": kind, "S/N": f"{low}-{high}", "stars": int(np.count_nonzero(chosen))}
        for name in ("PSF", "AUTO", "APER", "SExtractor", "photutils"):
            ratio = stars[name][chosen] / stars["flux"][chosen]
            row[name], row[f"{name} +-"] = middle_and_scatter(ratio)
            if f"{name} error" in stars:
                pull = (stars[name] - stars["flux"])[chosen] / stars[f"{name} error"][chosen]
                row[f"{name} pull"] = middle_and_scatter(pull)[1]
        rows.append(row)
    return rows


def astrometry_rows(kind, stars):
    rows = []
    for low, high in BINS[1:]:
        chosen = (stars["snr"] >= low) & (stars["snr"] < high)
        if np.count_nonzero(chosen) < 10:
            continue
        errors = np.concatenate([stars["dx"][chosen], stars["dy"][chosen]])
        bound = np.tile(stars["bound"][chosen], 2)
        stated = np.concatenate([stars["x error"][chosen], stars["y error"][chosen]])
        rows.append(
            {
                "frames": kind, "S/N": f"{low}-{high}",
                "rms over bound": np.sqrt(np.median(np.square(errors / bound)) / 0.4549),
                "mean x, px": stars["dx"][chosen].mean(), "mean y, px": stars["dy"][chosen].mean(),
                "error of the mean": errors.std() / np.sqrt(len(errors) / 2),
                "pull": middle_and_scatter(errors / stated)[1],
            }
        )  # fmt: skip
    return rows


def middle_and_scatter(values):
    values = values[np.isfinite(values)]
    if len(values) < 5:
        return np.nan, np.nan
    low, middle, high = np.percentile(values, (16, 50, 84))
    return middle, (high - low) / 2


def pairs(options, model):
    """The part of pairs of which both stars are listed, by FWHM, flux ratio and distance."""
    rows = []
    for k, fwhm in enumerate((2.5, 4.0)):
        for ratio in RATIOS:
            for distance in DISTANCES:
                rng = stream(options.seed, 100 + k, int(10 * ratio), int(100 * distance))
                rows.append(pair_row(rng, fwhm, ratio, distance, model))
    return rows


def pair_row(rng, fwhm, ratio, distance, model):
    spacing = int(12 * fwhm)
    count = int(np.sqrt(PAIRS_IN_FRAME))
    side = spacing * (count + 1)
    centres = spacing * (1 + np.indices((count, count)).reshape(2, -1)) + rng.uniform(
        -0.5, 0.5, (2, count**2)
    )
    angle = rng.uniform(0, 2 * np.pi, count**2)
    half = 0.5 * distance * fwhm * np.stack([np.sin(angle), np.cos(angle)])
    y, x = np.concatenate([centres - half, centres + half], axis=1)
    snr = np.repeat([PAIR_SNR, PAIR_SNR / ratio], count**2)
    frame = draw_frame(rng, side, fwhm, 0, 0, False, stars=(x, y, snr))
    parts = separate(frame.data, model=model, maps=("significance",))
    table = parts.catalog(gain=GAIN)
    subtracted = subtract_sky(frame.data)
    objects = sextractor_objects(subtracted)
    found = {
        "bgrem": (table["x"].value, table["y"].value),
        "SExtractor": (objects["x"], objects["y"]),
        "DAOStarFinder": daofind(subtracted, fwhm),
    }
    reach = min(0.35, 0.25 * distance) * fwhm
    row = {"FWHM": fwhm, "flux ratio": ratio, "distance, FWHM": distance}
    return row | {name: both_found(x, y, *places, reach) for name, places in found.items()}


def daofind(subtracted, fwhm):
    import photutils
    from photutils.detection import DAOStarFinder

    photutils.future_column_names = True

    ranges = {"sharpness_range": (-10.0, 10.0), "roundness_range": (-10.0, 10.0)}
    finder = DAOStarFinder(threshold=5 * subtracted.global_rms, fwhm=fwhm, **ranges)
    table = finder(subtracted.residual)
    return tuple(np.asarray(table[f"{axis}_centroid"]) for axis in "xy")


def both_found(x, y, found_x, found_y, reach):
    tree = cKDTree(np.column_stack([found_x, found_y]))
    distance, nearest = tree.query(np.column_stack([x, y]))
    count = len(x) // 2
    one, other = nearest[:count], nearest[count:]
    near = (distance[:count] < reach) & (distance[count:] < reach)
    return float(np.mean(near & (one != other)))


if __name__ == "__main__":
    main()
