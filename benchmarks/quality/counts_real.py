"""Counts models on real maps: the likelihood of photons that they did not see, and sources of the Galactic centre.

    python benchmarks/quality/counts_real.py --maps folder --json results/counts_real.json

Each photon of a map goes to one of two halves at random (binomial thinning): for a Poisson map both halves are independent
Poisson maps of the same expected counts. A method sees one half; the table has the logarithm of the likelihood of the
other half under its expected counts, per photon, above that of a constant level; means and standard errors over splits,
which do not hold the noise of the map itself. Of Gaussians, and of adaptive smoothing (gammapy's ASmooth), the best width, threshold and background are chosen by this
very likelihood. The published background, and the sources of 3FHL by their published fluxes, are scaled to the
seen half (a factor for each).

Galactic centre: point sources of 3FHL that are found, by the number of detections that match nothing in 3FHL
(0.15 degrees, or the radius of an extended source) and 3FGL.
The maps are those that `counts_fields.py` names.
"""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
from counts_fields import (
    CATALOGUE_RADIUS,
    SOURCES_3FGL,
    SOURCES_3FHL,
    catalogue_of,
    galactic_centre,
    real_fields,
)
from report_card import add_seed, finish, make_parser, show_progress, stream

from bgrem.counts.counts_input import area_fwhm
from bgrem.counts_training.counts_baselines import (
    NO_GAMMAPY,
    detect_by_sep,
    has_gammapy,
    li_ma_map,
    ring_counts,
    smoothed_adaptively,
    smoothed_by_gaussian,
    ts_map,
    wavelet_map,
)
from bgrem.counts_training.counts_evaluation import counts_separation
from bgrem.counts_training.counts_froc import curve_of_maps, detections_of_score
from bgrem.evaluate.truth import Truth
from bgrem.masks.areas import around

#: Standard deviations of Gaussians, pixels, and thresholds of ASmooth.
WIDTHS = 0.5 * np.sqrt(2.0) ** np.arange(14)
THRESHOLDS = (2.0, 3.0, 4.0, 5.0)
#: Least expected counts, over the mean: the likelihood of every method stays finite.
LEAST = 1e-6
#: Detections that match nothing, at which methods are compared on the Galactic centre.
UNMATCHED = (1, 3, 5, 10, 20, 40)
MIXTURE_STEPS = 200
GAUSSIAN, ADAPTIVE, MODEL = "best Gaussian", "best ASmooth", "published background + 3FHL"


def main(argv=None):
    """Run the command."""
    parser = make_parser(__doc__)
    add_seed(parser)
    parser.set_defaults(model="counts")
    parser.add_argument("--maps", required=True, metavar="FOLDER", help="folder of the maps")
    parser.add_argument("--splits", type=int, default=5, help="of each map (default: 5)")
    parser.add_argument(
        "--only", nargs="+", metavar="MAP", help="maps whose names hold one of these"
    )
    options = parser.parse_args(argv)
    began = perf_counter()
    model, separate = separation_of(options)
    if not has_gammapy():
        print(f"{NO_GAMMAPY}\n")
    chosen = [field for field in real_fields(options.maps) if _wanted(field.name, options.only)]
    if not chosen:
        raise SystemExit(f"no map of counts_fields.py in {options.maps}")
    rows = []
    for field in chosen:
        show_progress(options, field.name)
        halves = [thinned(field.counts, stream(options.seed, 31, *field.name.encode(), split))
                  for split in range(options.splits)]  # fmt: skip
        rows += held_out_rows(field, halves, methods_of(field, separate))
    tables = {"likelihood of the other half, per photon above a constant level": rows}
    if any(field.catalogue is not None and "centre" in field.name for field in chosen):
        show_progress(options, "sources of the Galactic centre")
        tables["Galactic centre: sources of 3FHL"] = centre_rows(options.maps, separate)
    finish(options, tables, model=model, began=began)


@dataclass(frozen=True)
class CountsCard:
    """What a report says of a counts model."""

    name: str
    version: str
    licence: str
    description: str


def separation_of(options):
    """The counts model as reports name it, and a function of counts (K, ny, nx) and what is given that separates them."""
    from bgrem.counts.counts_model import load_counts_model

    model = load_counts_model(options.model, threads=options.threads)
    card = CountsCard(model.name, model.version, model.licence, model.description)
    return SimpleNamespace(card=card, sha256=model.sha256), counts_separation(model)


def _wanted(name, only):
    return only is None or any(part in name for part in only)


# ---- likelihood ------------------------------------------------------------------------


def thinned(counts, rng):
    """Two halves (integers, of the shape of the counts): each photon goes to one at random."""
    first = rng.binomial(counts, 0.5)
    return first, counts - first


def log_likelihood(counts, expected):
    """Logarithm of the Poisson likelihood per photon, above that of the constant level of each band that is likeliest.

    The expected counts are raised to `LEAST` of their mean; n! cancels.
    """
    expected = np.maximum(expected, LEAST * counts.mean(axis=(1, 2), keepdims=True))
    level = np.maximum(counts.mean(axis=(1, 2), keepdims=True), 1e-12)
    ours = (counts * np.log(expected)).sum() - expected.sum()
    flat = (counts * np.log(level)).sum() - counts.sum()
    return float((ours - flat) / counts.sum())


def methods_of(field, separate):
    """Name -> function of the seen half that gives the expected counts, or of a list of them to choose from.

    A list has an entry for each parameter; a likelier one may be chosen for each band.
    """
    given = {name: value for name, value in field.given.items() if value is not None}
    wanted = {"bgrem": given}
    if "psf" in given and len(given) > 1:
        wanted["bgrem, PSF only"] = {"psf": given["psf"]}
    if given:
        wanted["bgrem, nothing given"] = {}
    methods = {
        name: lambda half, inputs=inputs: [_expected_by(separate, half, inputs)]
        for name, inputs in wanted.items()
    }
    methods[GAUSSIAN] = lambda half: [
        np.stack([smoothed_by_gaussian(band, width, exposure=exposure) for band, exposure in
                  zip(half, _exposures(field), strict=True)])
        for width in WIDTHS
    ]  # fmt: skip
    if has_gammapy():
        methods[ADAPTIVE] = lambda half: _adaptive(field, half)
    if field.background is not None:
        methods["published background"] = lambda half: [scaled_to(half, [field.background])]
    if field.catalogue is not None:
        methods[MODEL] = lambda half: [scaled_to(half, [field.background, field.catalogue])]
    return methods


def _exposures(field):
    return [None] * len(field.counts) if field.exposure is None else field.exposure


def _expected_by(separate, half, given):
    parts = separate(half, **given)
    return np.asarray(parts.sources, np.float64) + np.asarray(parts.background, np.float64)


def _adaptive(field, half):
    """ASmooth with each threshold above a flat background, and above the published one where there is one."""
    flat = np.broadcast_to(half.mean(axis=(1, 2), keepdims=True), half.shape)
    backgrounds = [flat]
    if field.background is not None:
        backgrounds.append(scaled_to(half, [field.background]))
    return [
        np.stack([
            smoothed_adaptively(*pair, threshold=threshold, scales=WIDTHS)
            for pair in zip(half, background, strict=True)
        ])
        for background in backgrounds for threshold in THRESHOLDS
    ]  # fmt: skip


def scaled_to(counts, parts):
    """The sum of maps (K, ny, nx), each times a factor for each band: the likeliest of a Poisson map.

    The factors are those of expectation maximisation (Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39, 1): each step
    multiplies a map by its share of the photons over its sum.
    """
    parts = np.stack(parts).astype(np.float64)
    factors = np.ones(parts.shape[:2])
    total = np.maximum(parts.sum(axis=(2, 3)), 1e-12)
    for _ in range(MIXTURE_STEPS):
        model = np.maximum((factors[..., None, None] * parts).sum(axis=0), 1e-12)
        factors = factors * (parts * (counts / model)).sum(axis=(2, 3)) / total
    return (factors[..., None, None] * parts).sum(axis=0)


def held_out_rows(field, halves, methods):
    """Rows of a map: each method's likelihood, and how far it is above the best Gaussian."""
    values, seconds = {}, {}
    for name, method in methods.items():
        began = perf_counter()
        by_split = [
            [[log_likelihood(other[k : k + 1], expected[k : k + 1]) for k in range(len(other))]
             for expected in method(seen)]
            for seen, other in halves
        ]  # fmt: skip
        seconds[name] = (perf_counter() - began) / len(halves)
        by_split = np.array(by_split)  # (split, choice, band)
        best = by_split.mean(axis=0).argmax(axis=0)
        photons = np.array([other.sum(axis=(1, 2)) for _, other in halves], dtype=np.float64)
        chosen = by_split[:, best, np.arange(best.size)]
        values[name] = (chosen * photons).sum(axis=1) / photons.sum(axis=1)
    rows = []
    for name, value in values.items():
        row = {"map": field.name, "method": name, "gain": _mean(value)}
        for other in (GAUSSIAN, ADAPTIVE, MODEL):
            row[f"over {other}"] = (
                _mean(value - values[other]) if other in values and other != name else None
            )
        rows.append(row | {"s": seconds[name]})
    return rows


def _mean(values):
    """Mean and standard error of splits, as text."""
    error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.nan
    return f"{values.mean():.4f} +- {error:.4f}"


# ---- Galactic centre -------------------------------------------------------------------


def centre_rows(folder, separate):
    """Rows of the number of detections that match nothing: how many sources of 3FHL each method finds."""
    field, folder = galactic_centre(folder), Path(folder)
    truth, degrees = centre_truth(field, folder)
    curves = {}
    for name, method in centre_methods(field, separate).items():
        table = detections_of_score(method(), truth.usable)
        # Areas in units of the map: a rate is a number of detections.
        curves[name] = curve_of_maps([table], [truth], [1.0 / np.count_nonzero(truth.usable)])
    return [
        {"match nothing": number, "sources": int(truth.counted.sum()), "deg2": round(degrees)}
        | {name: round(curve.true_positives(number)) for name, curve in curves.items()}
        for number in UNMATCHED
    ]


def centre_truth(field, folder):
    """What counts on the Galactic centre, and its area in square degrees.

    Point sources of 3FHL count. A detection near one of 3FGL or in an extended source of 3FHL is not scored.
    """
    shape, pixel = field.counts.shape[1:], abs(field.wcs.wcs.cdelt[1])
    radius = CATALOGUE_RADIUS / pixel
    known = catalogue_of(folder / SOURCES_3FHL, field.wcs, shape)
    point = np.asarray(known["radius"]) == 0.0
    blank = np.ones(shape, dtype=bool)
    for source in known[~point]:
        place = np.atleast_1d(source["x"]), np.atleast_1d(source["y"])
        blank &= ~around(*place, shape, max(source["radius"] / pixel, radius))
    if (folder / SOURCES_3FGL).exists():
        other = catalogue_of(folder / SOURCES_3FGL, field.wcs, shape)
        blank &= ~around(np.asarray(other["x"]), np.asarray(other["y"]), shape, radius)
    x, y = (np.asarray(known[name][point], dtype=np.float64) for name in "xy")
    snr = np.asarray(known["Signif_Avg"][point], dtype=np.float64)
    usable = np.ones(shape, dtype=bool)
    truth = Truth(x, y, snr, np.ones(x.size, dtype=bool), usable, blank, radius)
    return truth, usable.sum() * pixel**2


def centre_methods(field, separate):
    """Name -> function that gives a score map or detections of the Galactic centre."""
    psf = field.psf[0]
    given = {name: value for name, value in field.given.items() if value is not None}
    sky = SimpleNamespace(
        counts=field.counts, exposure=field.given["exposure"], psf=field.psf,
        fwhm=area_fwhm(field.psf),
    )  # fmt: skip
    methods = {
        "bgrem": lambda: separate(field.counts, **given).significance,
        "bgrem, PSF only": lambda: separate(field.counts, psf=field.psf).significance,
        "bgrem, nothing given": lambda: separate(field.counts).significance,
    }
    if has_gammapy():
        counts, exposure = field.counts[0], sky.exposure[0]
        methods |= {
            "TS, published background": lambda: ts_map(
                counts, field.background[0], psf, exposure=exposure
            ),
            "TS, ring": lambda: ts_map(counts, ring_counts(sky)[2], psf, exposure=exposure),
        }
    return methods | {
        "Li & Ma": lambda: li_ma_map(sky),
        "wavelets": lambda: wavelet_map(sky),
        "SEP": lambda: detect_by_sep(sky),
    }


if __name__ == "__main__":
    main()
