"""How much of the true flux is recovered: of stars, of galaxies, and along two profiles.

    python benchmarks/quality/flux.py --json results/flux.json

*Stars* of simulated MeerLICHT frames, in bins of S/N, by the true flux and by the one that is
measured: median of measured over true, and scatter (half of the central 68 %). Only stars on which
other sources put less than 5 % of their light count. Of the same stars:

- `psf on sources`: least squares with the true PSF at the true place, on bgrem's sources;
- `aperture on sources`: a circle of radius 1 FWHM at the true place, on bgrem's sources;
- `original`: of stars that bgrem detects by the recipe of docs/recipes.rst, the same circle on
  data - background, where bgrem sees them; `local sky`: less the median of bgrem's noise in a ring
  of 3 to 5 FWHM around;
- `SExtractor`, `SExtractor auto`: the circle and FLUX_AUTO, of stars that its default run detects,
  where it sees them.

Apertures are compared with the true light in the same aperture at the true place, FLUX_AUTO with
the total flux. *Galaxies* are exponential discs of known half-light radius on the same sky, each in
a circle of 2.5 half-light radii (widened by the seeing). *Profiles*: mean surface brightness in
elliptical rings of a galaxy of 60 px half-light radius and of a faint disc that is wider than a
tile (1024 px), in units of the sky's rms, and where it went; `SExtractor`: what its background
leaves. *Whole profiles*: the sum of the sources within the outermost ring over the true one, and
the largest FLUX_AUTO that SExtractor finds within half a half-light radius of the centre over the true total.
"""

from itertools import pairwise
from time import perf_counter

import numpy as np
import sep
from report_card import (
    add_seed,
    add_threshold,
    finish,
    make_parser,
    model_of,
    show_progress,
    stream,
    threshold_of,
)  # fmt: skip
from scipy.spatial import cKDTree

from bgrem.arrays.stamps import add_stamp
from bgrem.background import separate
from bgrem.detection.photometry import aperture_fluxes, auto_fluxes, median_and_scatter, psf_fluxes
from bgrem.detection.sextractor import DEFAULT_AREA, DEFAULT_CONV, DEFAULT_THRESHOLD, subtract_sky
from bgrem.evaluate.methods import detections_of
from bgrem.evaluate.truth import matching_radius
from bgrem.masks.areas import inner, inside
from bgrem.simulate import Scene, draw
from bgrem.simulate.detector import add_light
from bgrem.simulate.galaxies import draw_extended
from bgrem.simulate.scene import FULL_WELL_BIT, GAP_BIT, STAR

BINS = (1, 2, 3, 5, 10, 20, 50, 100, 300, 1000, 1e4)
#: Light of others in a star's aperture, as a part of its own, up to which the star counts.
CLEAN = 0.05
#: A field of stars and small galaxies, bright ones included; the rest is the default MeerLICHT scene.
STARS = {"stars": 1500.0, "star_slope": 0.5, "brightest": 2e4, "galaxies": 500.0,
         "large_galaxies": 0.0, "discs": 0.0}  # fmt: skip
#: The same without most of the stars, for galaxies of their own.
SPARSE = {"stars": 200.0, "galaxies": 0.0, "large_galaxies": 0.0, "discs": 0.0, "brightest": 100.0}
#: The same with nothing else that is wider than a star: what moves is the profile's own light.
FLAT = SPARSE | dict.fromkeys(("amplifier_step", "gradient", "smooth_sky", "ghosts",
                               "satellite_trails", "bad_columns"), 0.0)  # fmt: skip
RADII = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # half-light, px
GALAXY_SNR = ((20.0, 80.0), (80.0, 320.0))
RECIPE_RATE = 10.0  # false detections per Mpix above BGR_SG10, the threshold of docs/recipes.rst
DISC_SCALE = 1.678  # half-light radius of an exponential disc in units of its scale length
RINGS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # in half-light radii
#: Half-light radius (px), axis ratio and central brightness (sky rms) of exponential discs.
PROFILES = {"galaxy": (60.0, 0.7, 20.0), "faint disc": (250.0, 0.8, 1.0)}


def main(argv=None):
    parser = make_parser(__doc__)
    add_seed(parser)
    add_threshold(parser, rate=RECIPE_RATE)
    parser.add_argument("--frames", type=int, default=6, help="frames of stars (default: 6)")
    parser.add_argument("--side", type=int, default=1024, help="of a frame in pixels")
    parser.add_argument(
        "--galaxy-frames", type=int, default=2, help="frames for each radius (large ones: more)"
    )
    parser.add_argument("--profile-side", type=int, default=2048, help="of a profile's frame")
    options = parser.parse_args(argv)
    began = perf_counter()
    model = model_of(options)
    threshold = threshold_of(options, model)
    stars = []
    for number in range(options.frames):
        show_progress(options, f"stars {number + 1}/{options.frames}")
        scene = Scene(shape=(options.side, options.side), **STARS)
        sky = draw(scene, stream(options.seed, 1, number))
        stars.append(star_fluxes(sky, model, threshold))
    stars = {name: np.concatenate([part[name] for part in stars], axis=1) for name in stars[0]}
    tables = ratios(stars, "true") | ratios(stars, "measured")
    show_progress(options, "galaxies")
    tables["exponential discs by half-light radius"] = galaxies(options, model)
    whole = []
    for number, name in enumerate(PROFILES):
        show_progress(options, f"profile of the {name}")
        rows, total = profile(
            options.profile_side, PROFILES[name], model, stream(options.seed, 3, number)
        )
        tables[f"profile of the {name}, sky rms"] = rows
        whole.append({"profile": name, **total})
    tables["whole profiles, measured over true"] = whole
    finish(options, tables, model=model, began=began, plot=draw_ratios, threshold=threshold)


def draw_ratios(tables, figure):
    """Measured over true flux of stars against S/N, of galaxies against their radius, of profiles."""
    stars, galaxies, profiles = figure.subplots(1, 3)
    rows = tables["stars by true flux: median of measured over true"]
    middle = [np.sqrt(low * high) for low, high in pairwise(BINS)]
    for name in list(rows[0])[1:]:
        stars.plot(middle, [row[name] for row in rows], "o-", ms=2, label=name)
    stars.set(xscale="log", xlabel="true S/N of stars", ylabel="measured over true flux")
    rows = tables["exponential discs by half-light radius"]
    for low, high in GALAXY_SNR:
        mine = [row for row in rows if row["S/N"] == f"{low:g}-{high:g}"]
        for name in ("sources", "auto"):
            galaxies.plot([row["radius, px"] for row in mine], [row[name] for row in mine], "o-",
                          ms=3, label=f"{name}, S/N {low:g}-{high:g}")  # fmt: skip
    galaxies.set(xscale="log", xlabel="half-light radius of discs, px")
    for name in PROFILES:
        rows = tables[f"profile of the {name}, sky rms"]
        for part in ("sources", "SExtractor"):
            profiles.plot([float(row["px"]) for row in rows],
                          [row[part] / row["true"] for row in rows], "o-", ms=3,
                          label=f"{name}: {part}")  # fmt: skip
    profiles.set(xlabel="radius, px")
    for axes in (stars, galaxies, profiles):
        axes.axhline(1.0, color="0.7", lw=0.8)
        axes.set_ylim(0.0, 1.5)
        axes.legend(fontsize=6)


# ---- stars -----------------------------------------------------------------------------


def star_fluxes(sky, model, threshold):
    """True S/N, measured and true flux of clean stars: name of the method -> (3, n)."""
    stars, fwhm = clean_stars(sky), sky.scene.fwhm
    x, y, snr = (stars[name].astype(np.float64) for name in ("x", "y", "snr"))
    parts = separate(sky.data, model=model, maps=("significance",))
    psf = np.asarray(sky.psf.image, np.float64)
    true = aperture_fluxes(sky.sources, x, y, fwhm)
    fitted, fits = (psf_fluxes(image, x, y, psf) for image in (parts.sources, sky.sources))
    out = {
        "psf on sources": np.stack([snr, fitted, fits]),
        "aperture on sources": np.stack([snr, aperture_fluxes(parts.sources, x, y, fwhm), true]),
    }
    found = detections_of(parts)
    found = found[found["score"] >= threshold]
    star, seen = pairs_of(stars, found["x"], found["y"], matching_radius(fwhm))
    place = found["x"][seen], found["y"][seen]
    flux = aperture_fluxes(sky.data - parts.background, *place, fwhm)
    level = ring_medians(parts.noise, *place, 3 * fwhm, 5 * fwhm) * np.pi * fwhm**2
    out["original"] = np.stack([snr[star], flux, true[star]])
    out["original, local sky"] = np.stack([snr[star], flux - level, true[star]])
    return out | _by_sextractor(sky, stars, true)


def _by_sextractor(sky, stars, true):
    """The same for SExtractor's default run."""
    subtracted, fwhm = subtract_sky(sky.data), sky.scene.fwhm
    objects = sextractor_objects(subtracted)
    star, seen = pairs_of(stars, objects["x"], objects["y"], matching_radius(fwhm))
    place, snr = (objects["x"][seen], objects["y"][seen]), stars["snr"][star]
    circle = aperture_fluxes(subtracted.residual, *place, fwhm)
    auto = auto_fluxes(subtracted.residual, objects[seen])
    return {
        "SExtractor": np.stack([snr, circle, true[star]]),
        "SExtractor auto": np.stack([snr, auto, stars["flux"][star]]),
    }


def sextractor_objects(subtracted):
    """The objects of SExtractor's default run, through SEP."""
    return sep.extract(
        subtracted.residual, DEFAULT_THRESHOLD * subtracted.global_rms, minarea=DEFAULT_AREA,
        filter_kernel=DEFAULT_CONV, filter_type="conv", clean=True,
    )  # fmt: skip


def clean_stars(sky):
    """Stars away from the border and from saturation, with little light of others on them."""
    stars, fwhm = sky.truth[sky.truth["kind"] == STAR], sky.scene.fwhm
    usable = inner(sky.data.shape, int(np.ceil(5 * fwhm))) & (
        sky.mask & (GAP_BIT | FULL_WELL_BIT) == 0
    )
    stars = stars[(stars["snr"] >= BINS[0]) & inside(usable, stars["x"], stars["y"])]
    x, y = stars["x"].astype(float), stars["y"].astype(float)
    psf = np.asarray(sky.psf.image, np.float64)
    middle = psf.shape[0] // 2
    own = stars["flux"] * aperture_fluxes(psf, [middle], [middle], fwhm)
    others = aperture_fluxes(sky.sources, x, y, fwhm) - own
    return stars[np.abs(others) < CLEAN * own]


def pairs_of(stars, x, y, radius):
    """Indices of stars and of the detections that are nearest to them, within the radius."""
    if not len(x) or not len(stars):
        return np.empty(0, int), np.empty(0, int)
    tree = cKDTree(np.column_stack([x, y]))
    distance, nearest = tree.query(np.column_stack([stars["x"], stars["y"]]))
    star = np.flatnonzero(distance <= radius)
    return star, nearest[star]


def ring_medians(image, x, y, inside_of, outside_of):
    """Median of an image in a ring around each place."""
    half = int(np.ceil(outside_of))
    row, column = np.mgrid[-half : half + 1, -half : half + 1]
    distance = np.hypot(row, column)
    ring = (distance > inside_of) & (distance <= outside_of)
    padded = np.pad(image, half, constant_values=np.nan)
    rows = np.rint(y).astype(int)[:, None] + row[ring] + half
    columns = np.rint(x).astype(int)[:, None] + column[ring] + half
    return np.nanmedian(padded[rows, columns], axis=1) if len(rows) else np.empty(0)


def ratios(stars, by):
    """Tables of S/N bins and methods: number, median ratio and scatter.

    Parameters
    ----------
    stars : dict
        Name -> (3, n) array of true S/N, measured and true flux.
    by : str
        "true", or "measured": the S/N that a star of the measured flux would have.

    Returns
    -------
    dict of str to list of dict
    """
    tables = {}
    for i, figure in enumerate(("median of measured over true", "scatter", "number")):
        rows = tables[f"stars by {by} flux: {figure}"] = []
        for low, high in pairwise(BINS):
            row = {"S/N": f"{low:g}-{high:g}"}
            for name, (snr, measured, true) in stars.items():
                key = snr if by == "true" else snr * measured / true
                chosen = (key >= low) & (key < high)
                row[name] = median_and_scatter(measured[chosen] / true[chosen])[i]
            rows.append(row)
    return tables


# ---- galaxies --------------------------------------------------------------------------


def galaxies(options, model):
    """Rows of half-light radii and S/N: recovered flux of exponential discs."""
    rows = []
    for i, radius in enumerate(RADII):
        parts = []
        # Few of the largest fit into a frame.
        for number in range(options.galaxy_frames * max(1, round(radius / 8))):
            rng = stream(options.seed, 2, i, number)
            parts.append(galaxy_fluxes(options.side, radius, model, rng))
        snr, sources, original, auto = np.concatenate(parts, axis=1)
        for low, high in GALAXY_SNR:
            chosen = (snr >= low) & (snr < high)
            row = {"radius, px": radius, "S/N": f"{low:g}-{high:g}", "n": int(chosen.sum())}
            for name, ratio in (("sources", sources), ("original", original), ("auto", auto)):
                row[name], row[f"{name}, scatter"], _ = median_and_scatter(ratio[chosen])
            row["found by SExtractor"] = int(np.isfinite(auto[chosen]).sum())
            rows.append(row)
    return rows


def galaxy_fluxes(side, radius, model, rng):
    """S/N of discs, and measured over true flux on sources, on the original, by FLUX_AUTO: (4, n)."""
    sky = draw(Scene(shape=(side, side), **SPARSE), rng)
    scene, fwhm = sky.scene, sky.scene.fwhm
    x, y = positions(side, spacing=max(64, int(9 * radius)), most=60, rng=rng)
    snr = np.exp(rng.uniform(np.log(GALAXY_SNR[0][0]), np.log(GALAXY_SNR[-1][1]), x.size))
    light, flux = np.zeros(sky.data.shape), np.zeros(x.size)
    for i in range(x.size):
        stamp = draw_extended(
            sky.psf, rng, radius=radius, index=1.0, ratio=float(rng.uniform(0.3, 1.0))
        )
        flux[i] = snr[i] * scene.sky_rms / scene.gain / np.sqrt(np.square(stamp).sum())
        add_stamp(light, flux[i] * stamp, x[i] - stamp.shape[1] // 2, y[i] - stamp.shape[0] // 2)
    data = observed(sky, light, rng)
    parts = separate(data, model=model, maps=())
    reach = 2.5 * np.hypot(radius, 0.5 * fwhm)
    true = aperture_fluxes(light + sky.sources, x, y, reach)
    ratio = [aperture_fluxes(image, x, y, reach) / true
             for image in (parts.sources, data - parts.background)]  # fmt: skip
    subtracted = subtract_sky(data)
    objects = sextractor_objects(subtracted)
    auto, catalogue = np.full(x.size, np.nan), {"x": x, "y": y}
    galaxy, seen = pairs_of(catalogue, objects["x"], objects["y"], max(fwhm, radius))
    auto[galaxy] = auto_fluxes(subtracted.residual, objects[seen]) / flux[galaxy]
    clean = np.abs(true / aperture_fluxes(light, x, y, reach) - 1) < CLEAN
    return np.stack([snr, *ratio, auto])[:, clean]


def positions(side, *, spacing, most, rng):
    """Pixels on a grid of that spacing away from the borders, some of them if there are many."""
    line = np.arange(spacing // 2, side - spacing // 2 + 1, spacing)
    x, y = (axis.ravel() for axis in np.meshgrid(line, line))
    chosen = rng.permutation(x.size)[:most]
    return x[chosen], y[chosen]


def observed(sky, light, rng):
    """The data of a simulated frame with more light in it."""
    scene = sky.scene
    step = scene.quantisation * scene.sky_rms / scene.gain
    return add_light(sky.data, light, rng=rng, gain=scene.gain, step=step)


# ---- profiles --------------------------------------------------------------------------


def profile(side, shape, model, rng):
    """Rows of rings: true brightness and where it went, in units of the sky's rms; and the totals."""
    radius, ratio, centre = shape
    sky = draw(Scene(shape=(side, side), **FLAT), rng)
    unit = sky.scene.sky_rms / sky.scene.gain
    row, column = np.ogrid[:side, :side]
    middle = (side - 1) / 2
    distance = np.hypot((column - middle) * ratio**0.5, (row - middle) / ratio**0.5) / radius
    light = centre * unit * np.exp(-DISC_SCALE * distance)
    data = observed(sky, light, rng)
    parts = separate(data, model=model, maps=())
    subtracted = subtract_sky(data)
    # Stars and defects are no part of the profile.
    good = (sky.sources < 0.1 * unit) & (sky.mask == 0)
    planes = {
        "true": light, "sources": parts.sources - sky.sources,
        "background": parts.background - sky.background, "noise": parts.noise - sky.noise,
        "SExtractor": subtracted.residual - sky.sources - sky.noise,
    }  # fmt: skip
    rows = []
    for low, high in pairwise(RINGS):
        ring = (distance >= low) & (distance < high) & good
        if ring.sum() < 30:
            continue
        means = {name: float(plane[ring].mean() / unit) for name, plane in planes.items()}
        rows.append(
            {"ring, half-light radii": f"{low:g}-{high:g}", "px": f"{low * radius:.0f}",
             **means, "sources / true": means["sources"] / means["true"]}
        )  # fmt: skip
    inner_part = (distance < RINGS[-1]) & good
    total = {
        "sources": float(planes["sources"][inner_part].sum() / light[inner_part].sum()),
        "SExtractor auto": auto_of_the_middle(subtracted, middle, radius) / float(light.sum()),
    }
    return rows, total


def auto_of_the_middle(subtracted, middle, radius):
    """FLUX_AUTO of the brightest object within half a half-light radius; nan where none is found."""
    objects = sextractor_objects(subtracted)
    near = np.hypot(objects["x"] - middle, objects["y"] - middle) < 0.5 * radius
    if not near.any():
        return np.nan
    return float(auto_fluxes(subtracted.residual, objects[near]).max())


if __name__ == "__main__":
    main()
