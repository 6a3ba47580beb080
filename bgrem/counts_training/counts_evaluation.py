"""What a counts model does on simulated maps: detections beside other methods, flux, false alarms, sums, time.

A separation is a function ``separate(counts, *, exposure=None, template=None, psf=None)`` of maps (K, ny, nx), relative
exposures and templates of the same shape, and images of the PSF (K, 31, 31). Its result has ``sources``,
``background`` and ``variance`` (K, ny, nx) in expected counts, and ``significance`` (ny, nx). `evaluate_counts` makes all
tables.
"""

import numpy as np
from scipy import ndimage

from bgrem.counts_scenes.king import psf_image
from bgrem.counts_training.counts_baselines import (
    NO_GAMMAPY,
    baseline_methods,
    has_gammapy,
    without_diffuse,
    without_isotropic,
)
from bgrem.counts_training.counts_card import ALL_KNOWN, BLANK_NUMBER, false_alarm_rows, known_of
from bgrem.counts_training.counts_froc import (
    counts_groups,
    field_fwhm,
    froc_rows,
    near_extended,
    point_sources,
    score_groups,
    truth_of_counts,
)
from bgrem.detection.peaks import local_maxima
from bgrem.evaluate.froc import match

__all__ = [
    "COMPARED", "counts_methods", "counts_separation", "evaluate_counts", "fit_point_sources",
    "profile_interval", "usual_groups",
]  # fmt: skip

#: Pairs of methods whose true detections are divided.
COMPARED = (
    ("bgrem", "TS, true background"), ("bgrem", "TS, background 20 % low"),
    ("bgrem", "TS, no isotropic"), ("bgrem", "TS, no diffuse"),
    ("bgrem, no isotropic", "TS, no isotropic"), ("bgrem, no diffuse", "TS, no diffuse"),
    ("bgrem, PSF only", "TS, ring"), ("bgrem, PSF only", "TS, flat"), ("bgrem, PSF only", "Li & Ma"),
    ("bgrem, PSF only", "wavelets"), ("bgrem", "SEP"), ("bgrem, nothing", "SEP"),
    ("bgrem, PSF only", "SEP, filter of the PSF"),
)  # fmt: skip
FLUX, SUMS = "flux of sources of S/N 5 and above", "sum of sources and background over counts"
#: Sources of this S/N are measured; the aperture has this radius in FWHM.
MEASURED_SNR, APERTURE = 5.0, 1.0
SWEEPS, HALVINGS = 4, 60  # of the joint fit of sources, and of an interval
SEED = 20261222
WIDE_SIDE = 201  # px, of an image that holds all light of a PSF


def usual_groups(number):
    """Patches of the Fermi-LAT of 10 degrees and inner parts of fields of Chandra, ``number`` of each level."""
    fermi = {"shape": [100, 100], "extended": 0.5}
    chandra = {
        "shape": [256, 256], "fwhm": 1.6, "king_index": 2.0, "tail": 0.1, "off_axis": 0.3, "instrumental": 0.7,
        "plane": 0.0, "cloud_contrast": 0.1, "chip_scatter": 0.15, "gaps": 1, "density": 6.0,
        "population": "X-ray sources", "extended": 0.02,
    }  # fmt: skip
    vary = {"fwhm": (2.0, 5.0), "density": (12.0, 40.0), "cloud_contrast": (0.1, 0.6)}
    kinds = {
        "fermi": {"levels": (0.1, 1.0, 10.0), "pixel": 0.1, "scene": fermi, "vary": vary},
        "chandra": {"levels": (0.01, 0.1, 1.0), "scene": chandra},
    }
    kinds = {name: kind | {"number": number} for name, kind in kinds.items()}
    return counts_groups({"seed": SEED, "kind": kinds})


# ---- bgrem as methods ------------------------------------------------------------------


def counts_separation(model="counts"):
    """The separation of the product by a model, its name or its file."""
    from bgrem.counts.bands import BandParts
    from bgrem.counts.counts_path import separate_counts
    from bgrem.options import Options

    options = Options(maps=("uncertainty", "significance"))

    def separate(counts, **known):
        bands = separate_counts(counts, model=model, options=options, **known)
        sources, background, deviation = (
            np.stack([np.asarray(getattr(one, name)) for one in bands])
            for name in ("sources", "background", "uncertainty")
        )
        return BandParts(sources, background, deviation**2, bands[0].significance)

    return separate


def counts_methods(separate):
    """The methods of bgrem, as those of `bgrem.counts_training.counts_froc`, by what is given.

    The one of the name "bgrem" has exposure, template and PSF; templates without a component are those of the TS maps with the same
    background.

    Returns
    -------
    dict of str to Method
    """

    def method(names, background_of=None):
        def score(sky):
            known = known_of(sky, names)
            if background_of is not None:
                known["template"] = background_of(sky) / np.where(sky.exposure > 0, sky.exposure, 1)
            return separate(sky.counts, **known).significance

        return score

    return {
        "bgrem": method(ALL_KNOWN),
        "bgrem, no isotropic": method(("exposure", "psf"), without_isotropic),
        "bgrem, no diffuse": method(("exposure", "psf"), without_diffuse),
        "bgrem, PSF only": method(("psf",)),
        "bgrem, nothing": method(()),
    }


def evaluate_counts(
    separate, groups, *, number=None, folder=None, threshold_for=None, blank_number=BLANK_NUMBER, progress=None
):  # fmt: skip
    """All tables of a separation on simulated maps.

    Parameters
    ----------
    separate : callable
    groups : list of CountsGroup
    number : int, optional
        Of maps of each group; by default all.
    folder : path-like, optional
        Where detections of the other methods are kept (`score_groups`).
    threshold_for : callable, optional
        What the card says: a rate of false detections per 1e4 PSF areas -> significance.
    blank_number : int
        Of source-free maps of each level.
    progress : callable, optional
        Called with a line of text.

    Returns
    -------
    dict of str to list of dict
        Title -> rows.
    """
    methods = counts_methods(separate) | baseline_methods()
    scored = score_groups(groups, methods, number=number, folder=folder, progress=progress)
    counts, ratios = froc_rows(scored, COMPARED)
    note = "" if has_gammapy() else f" ({NO_GAMMAPY})"
    tables = {f"true detections at equal false ones{note}": counts}
    for kind in dict.fromkeys(row["kind"] for row in ratios):
        rows = [row for row in ratios if row["kind"] == kind]
        tables[f"ratios of true detections, {kind}"] = _turned(rows)
    measured = [_flux_and_sum(separate, one, number) for one in scored]
    tables[FLUX], tables[SUMS] = ([rows[i] for rows in measured] for i in (0, 1))
    if threshold_for is not None:
        tables["false detections on source-free maps, per 1e4 PSF areas"] = false_alarm_rows(
            separate, threshold_for, number=blank_number, progress=progress
        )
    spent = {
        name: np.mean([one.seconds[name] for one in scored if name in one.seconds])
        for name in methods
        if any(name in one.seconds for one in scored)
    }
    tables["time"] = [
        {"method": name, "s/Mpix": mean, "Mpix/s": 1 / mean} for name, mean in spent.items()
    ]
    return tables


def _turned(rows):
    """Ratios with a row for each pair, and a column for each level and rate."""
    pairs = [name for name in rows[0] if " / " in name]
    return [
        {"ratio": pair} | {f"{row['counts/px']} at {row['false']}": row[pair] for row in rows}
        for pair in pairs
        if any(row[pair] is not None for row in rows)
    ]


# ---- flux ------------------------------------------------------------------------------


def profile_interval(counts, background, image):
    """Flux of greatest likelihood of a source at a known place, and its 68 % interval.

    The interval holds the fluxes whose Poisson log-likelihood is at most 0.5 below the greatest (Cash 1979, ApJ 228,
    939). Fluxes are not negative.

    Parameters
    ----------
    counts, background, image : (n,) array
        Counts and expected counts of all else in the pixels, and the part of the flux that is in each.

    Returns
    -------
    flux, low, high : float
        nan where the image is empty.
    """
    image = np.maximum(np.asarray(image, dtype=np.float64), 0.0)
    background = np.maximum(np.asarray(background, dtype=np.float64), 1e-9)
    held, total = counts > 0, image.sum()
    n, b, p = counts[held], background[held], image[held]
    if not total > 0:
        return np.nan, np.nan, np.nan

    def likelihood(flux):
        return (n * np.log1p(flux * p / b)).sum() - flux * total

    # The slope of the likelihood falls; it is negative above the flux that all counts would make.
    most = n.sum() / total + 1.0
    flux = _crossing(lambda f: (n * p / (b + f * p)).sum() - total, 0.0, most)
    level, highest = likelihood(flux) - 0.5, flux + 2.0 / total
    while likelihood(highest) > level:
        highest = flux + 2.0 * (highest - flux)
    low = _crossing(lambda f: level - likelihood(f), 0.0, flux)
    return flux, low, _crossing(lambda f: likelihood(f) - level, flux, highest)


def _crossing(function, low, high):
    """Where a falling function is zero between two points; the lower one where it is negative there."""
    if function(low) <= 0:
        return low
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return 0.5 * (low + high)


def fit_point_sources(counts, background, psf, places, *, exposure=None):
    """Fluxes of sources at known places, fitted together.

    Each source in turn has its `profile_interval` on the background and the light of the others.

    Parameters
    ----------
    counts, background : (ny, nx) array
    psf : (n, n) array
        Image of the PSF, n odd, with sum 1. It is moved by cubic splines.
    places : structured array
        Fields x, y in pixels.
    exposure : (ny, nx) array, optional
        Relative exposure.

    Returns
    -------
    (m, 3) float64
        Flux in counts at the exposure of the source's pixel, and its interval.
    """
    counts = np.asarray(counts, dtype=np.float64)
    exposure = np.ones_like(counts) if exposure is None else np.asarray(exposure, np.float64)
    images = [_moved(psf, place["x"], place["y"], exposure) for place in places]
    rest, fitted = np.array(background, dtype=np.float64), np.zeros((len(images), 3))
    for _ in range(SWEEPS):
        for i, (part, image) in enumerate(images):
            rest[part] -= fitted[i, 0] * image
            fitted[i] = profile_interval(counts[part].ravel(), rest[part].ravel(), image.ravel())
            rest[part] += fitted[i, 0] * image
    return fitted


def _moved(psf, x, y, exposure):
    """Part of the map around a place, and the light of a source there whose flux is 1."""
    half, (ny, nx) = psf.shape[0] // 2, exposure.shape
    row, column = int(np.clip(np.rint(y), 0, ny - 1)), int(np.clip(np.rint(x), 0, nx - 1))
    image = ndimage.shift(np.asarray(psf, np.float64), (y - row, x - column), order=3)
    rows = slice(max(row - half, 0), min(row + half + 1, ny))
    columns = slice(max(column - half, 0), min(column + half + 1, nx))
    top, left = half - row, half - column
    image = image[rows.start + top : rows.stop + top, columns.start + left : columns.stop + left]
    part = (rows, columns)
    return part, np.maximum(image, 0.0) * exposure[part] / max(exposure[row, column], 1e-9)


def _flux_and_sum(separate, scored, number):
    """A row of fluxes and a row of sums of a group of one band."""
    group = scored.group
    threshold = scored.curves["bgrem"].threshold(group.rates[-1])
    measured, sums = [], []
    for sky in group.skies(number):
        parts = separate(sky.counts, **known_of(sky, ALL_KNOWN))
        sums += _quarters(parts.sources + parts.background, sky.counts)
        measured += _measured_sources(sky, parts, threshold)
    row = {"kind": group.kind, "counts/px": f"{group.level:g}"}
    flux, low, high, true, light, true_light = np.array(measured).reshape(-1, 6).T
    some, held = len(true) > 0, (low <= true) & (true <= high)
    fluxes = {
        "sources": len(true),
        "median flux / true": np.median(flux / true) if some else np.nan,
        "error": 1.25 * np.std(flux / true) / np.sqrt(len(true)) if some else np.nan,
        "68 % intervals that hold it": held.mean() if some else np.nan,
        "binomial error": np.sqrt(0.68 * 0.32 / len(true)) if some else np.nan,
        "light in aperture / true": np.median(light / true_light) if some else np.nan,
    }
    expected, seen = np.array(sums).T
    some = seen > 0
    deviation = (expected[some] - seen[some]) / np.sqrt(seen[some])
    whole = expected.sum() / max(seen.sum(), 1)
    totals = {"sum / counts": whole, "Poisson error": 1 / np.sqrt(max(seen.sum(), 1))}
    totals |= {"rms of quarters, Poisson errors": np.sqrt(np.mean(deviation**2))}
    return row | fluxes, row | totals


def _quarters(expected, counts):
    """Sums over the quarters of maps, (expected, counts) of each."""
    halves = [(slice(None, side // 2), slice(side // 2, None)) for side in counts.shape[1:]]
    return [
        (expected[:, rows, columns].sum(dtype=float), float(counts[:, rows, columns].sum()))
        for rows in halves[0]
        for columns in halves[1]
    ]


def _measured_sources(sky, parts, threshold):
    """Detected sources of one band: fitted flux, interval, true flux, light of ``sources`` in an aperture, true light.

    The true flux is what falls within the image of the PSF.
    """
    truth, points = truth_of_counts(sky), point_sources(sky)
    found = local_maxima(parts.significance, threshold=threshold, usable=truth.usable)
    fitted = fit_point_sources(
        sky.counts[0], parts.background[0], sky.psf[0], found, exposure=sky.exposure[0]
    )
    bright = truth.counted & (truth.snr >= MEASURED_SNR)
    cut = (WIDE_SIDE - sky.psf.shape[-1]) // 2
    inside = psf_image(sky.scene.profile(0), WIDE_SIDE)[cut:-cut, cut:-cut].sum(dtype=float)
    wide = near_extended(sky)
    y, x = np.indices(wide.shape)
    rows = []
    for (flux, low, high), number in zip(fitted, match(found, truth)[1], strict=True):
        if number < 0 or not bright[number]:
            continue
        distance = np.hypot(x - truth.x[number], y - truth.y[number])
        aperture = distance <= APERTURE * field_fwhm(sky)
        if not (wide & aperture).any():
            light = [float(plane[0][aperture].sum()) for plane in (parts.sources, sky.sources)]
            rows.append((flux, low, high, inside * points["counts"][number], *light))
    return rows
