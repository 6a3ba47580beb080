"""What a counts model does on simulated maps: detections beside other methods, flux, false alarms, sums, time.

A separation is a function ``separate(counts, *, exposure=None, template=None, psf=None)`` of maps (K, ny, nx), relative
exposures and templates of the same shape, and images of the PSF (K, 31, 31). Its result has ``sources``,
``background`` and ``variance`` (K, ny, nx) in expected counts, and ``significance`` (ny, nx). `evaluate_counts` makes all
tables.
"""

import numpy as np

from bgrem.counts_scenes.king import psf_image
from bgrem.counts_training.counts_baselines import (
    NO_GAMMAPY,
    baseline_methods,
    has_gammapy,
    without_diffuse,
    without_isotropic,
)
from bgrem.counts_training.counts_card import ALL_KNOWN, BLANK_NUMBER, false_alarm_rows, known_of
from bgrem.counts_training.counts_flux import CLEARED, continued_background, fit_counts_sources
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

__all__ = ["COMPARED", "counts_methods", "counts_separation", "evaluate_counts", "usual_groups"]

#: Pairs of methods whose true detections are divided.
COMPARED = (
    ("bgrem", "TS, true background"), ("bgrem", "TS, background 20 % low"),
    ("bgrem", "TS, no isotropic"), ("bgrem", "TS, no diffuse"),
    ("bgrem, no isotropic", "TS, no isotropic"), ("bgrem, no diffuse", "TS, no diffuse"),
    ("bgrem, PSF only", "TS, ring"), ("bgrem, PSF only", "TS, flat"), ("bgrem, PSF only", "Li & Ma"),
    ("bgrem, PSF only", "wavelets"), ("bgrem", "SEP"), ("bgrem, nothing", "SEP"),
    ("bgrem, PSF only", "SEP, filter of the PSF"),
)  # fmt: skip
TRUE_TS = "TS, true background"
FLUX_TITLE, SUM_TITLE = (
    "flux of sources of S/N 5 and above",
    "sum of sources and background over counts",
)
#: Sources of this S/N are measured; the aperture has this radius in FWHM.
MEASURED_SNR, LIGHT_APERTURE = 5.0, 1.0
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
    separate, groups, *, number=None, others=True, folder=None, threshold_for=None, blank_number=BLANK_NUMBER,
    progress=None,
):  # fmt: skip
    """All tables of a separation on simulated maps.

    Parameters
    ----------
    separate : callable
    groups : list of CountsGroup
    number : int, optional
        Of maps of each group; by default all.
    others : bool
        False leaves out what takes long: the TS maps with another background than the true one.
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
    methods = counts_methods(separate) | {
        name: method
        for name, method in baseline_methods().items()
        if others or name == TRUE_TS or not name.startswith("TS")
    }
    scored = score_groups(groups, methods, number=number, folder=folder, progress=progress)
    counts, ratios = froc_rows(scored, COMPARED)
    note = "" if has_gammapy() else f" ({NO_GAMMAPY})"
    tables = {f"true detections at equal false ones{note}": _with_all_columns(counts)}
    for kind in dict.fromkeys(row["kind"] for row in ratios):
        rows = _turned([row for row in ratios if row["kind"] == kind])
        if rows:
            tables[f"ratios of true detections, {kind}"] = rows
    measured = [_flux_and_sum(separate, one, number) for one in scored]
    tables[FLUX_TITLE], tables[SUM_TITLE] = ([rows[i] for rows in measured] for i in (0, 1))
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


def _with_all_columns(rows):
    """Rows with the columns of all of them; None where a kind of maps does not have a method."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def _turned(rows):
    """Ratios with a row for each pair, and a column for each level and rate."""
    pairs = [name for name in rows[0] if " / " in name]
    return [
        {"ratio": pair} | {f"{row['counts/px']} at {row['false']}": row[pair] for row in rows}
        for pair in pairs
        if any(row[pair] is not None for row in rows)
    ]


# ---- flux and sums ----------------------------------------------------------------------


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
        "error": _error_of_median(flux / true),
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


def _error_of_median(values):
    """Standard error of a median, of Gaussian values with the interval from the 16th to the 84th percentile."""
    if not len(values):
        return np.nan
    low, high = np.percentile(values, (16.0, 84.0))
    return np.sqrt(np.pi / 2) * 0.5 * (high - low) / np.sqrt(len(values))


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
    fwhm, exposure = field_fwhm(sky), sky.exposure[0]
    background = continued_background(
        parts.background[0], found, radius=CLEARED * fwhm, shape=exposure * sky.template[0]
    )
    fitted = fit_counts_sources(sky.counts[0], background, sky.psf[0], found, exposure=exposure)
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
        aperture = distance <= LIGHT_APERTURE * fwhm
        if not (wide & aperture).any():
            light = [float(plane[0][aperture].sum()) for plane in (parts.sources, sky.sources)]
            rows.append((flux, low, high, inside * points["counts"][number], *light))
    return rows
