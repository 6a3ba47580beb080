"""Tables and plot of injected sources: depth, completeness and flux of every method."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np

from bgrem.detection.photometry import aperture_fluxes, median_and_scatter
from bgrem.evaluate.bootstrap import depth_gain
from bgrem.evaluate.froc import FALSE, froc, match
from bgrem.evaluate.methods import BGREM, MATCHED_FILTER, SEXTRACTOR
from bgrem.evaluate.tables import text_table, write_json
from bgrem.evaluate.target import GALAXY, STAR

__all__ = [
    "DEPTH_REFERENCES", "FLUX_BIN", "InjectionReport", "completeness_rows", "flux_rows",
    "method_rows", "summary_rows", "summary_table",
]  # fmt: skip

#: Bins of S/N of the tables of completeness and flux.
SNR_BINS = (1, 2, 3, 4, 5, 7, 10, 20, 50, 100, 1000)
#: The bin whose flux stands for a frame.
FLUX_BIN = "10-20"
#: Bootstrap resamples of a depth.
DEPTH_RESAMPLES = 200
#: What depths are compared with: short name -> method.
DEPTH_REFERENCES = {"default": SEXTRACTOR, "matched": MATCHED_FILTER}


@dataclass(frozen=True, eq=False)
class InjectionReport:
    """What every method made of one frame.

    Attributes
    ----------
    name : str
    facts : dict
        FWHM, gain, area, number of frames and of injected sources, length of the lists.
    methods : list of dict
        A row for each method: threshold, depth, gains, false alarms.
    completeness : list of dict
        A row for each bin of S/N, a column for each method.
    flux : list of dict
        A row for each bin of S/N: ratio of measured to true flux of stars, and its scatter.
    """

    name: str
    facts: dict
    methods: list
    completeness: list
    flux: list

    def table(self):
        """The report as text."""
        facts = ", ".join(f"{name} {_short(value)}" for name, value in self.facts.items())
        parts = [f"{self.name}: {facts}", text_table(self.methods)]
        parts += [
            "completeness of stars, and in brackets of galaxies",
            text_table(self.completeness),
        ]
        if self.flux:
            parts += ["measured over true flux of stars", text_table(self.flux)]
        return "\n\n".join(parts)

    def write(self, folder, name):
        """Write ``name.json`` and, with matplotlib, ``name.png``.

        Returns
        -------
        list of pathlib.Path
        """
        content = {"name": self.name, "facts": self.facts, "methods": self.methods,
                   "completeness": self.completeness, "flux": self.flux}  # fmt: skip
        written = [write_json(Path(folder) / f"{name}.json", content)]
        if find_spec("matplotlib"):
            written.append(Path(folder) / f"{name}.png")
            self.plot(written[-1])
        return written

    def plot(self, path):
        """Completeness of all methods against S/N."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.0, 4.2), layout="constrained")
        axes = figure.subplots()
        middle = [np.sqrt(low * high) for low, high in pairwise(SNR_BINS)]
        for row in self.methods:
            name = row["method"]
            axes.plot(middle, [bin_[name] for bin_ in self.completeness], "o-", label=name)
        axes.axhline(0.5, color="0.7", lw=0.8)
        axes.set(xscale="log", xlabel="S/N of the star", ylim=(0, 1.02), title=self.name)
        axes.set(ylabel=f"completeness with lists of {self.facts['list']}")
        axes.legend()
        figure.savefig(path, dpi=110)


def method_rows(found, truths, injections, *, lists, levels, alarms):
    """A row for each method: threshold, depth and gains of stars, false alarms."""
    stars = [
        replace(truth, counted=truth.counted & (one.sources["kind"] == STAR))
        for truth, one in zip(truths, injections, strict=True)
    ]
    curves = {name: froc(tables, stars) for name, tables in found.items()}
    injected = sum(truth.x.size for truth in truths)
    rows = []
    for name, curve in curves.items():
        made = sum(
            np.count_nonzero(match(table, truth)[0] == FALSE)
            for table, truth in zip(found[name], truths, strict=True)
        )
        row = {"method": name, "listed": lists[name].size, "threshold": levels[name],
               "stars found": int(curve.true_positives(np.inf)),
               "S/N at 50 %": curve.limiting_snr(np.inf)}  # fmt: skip
        for short, reference in DEPTH_REFERENCES.items():
            row[f"mag on {short}"], row[f"68 % on {short}"] = depth_gain(
                curve, curves[reference], rate=np.inf, rng=np.random.default_rng(0),
                resamples=DEPTH_RESAMPLES,
            )  # fmt: skip
        row["upside down/Mpix"] = alarms.get(name, np.nan)
        row["fragments"] = made / max(injected, 1)
        rows.append(row)
    return rows


def completeness_rows(found, truths, injections):
    """A row for each bin of S/N: number of stars, share of them that each method finds; galaxies.

    The last columns are the same of the galaxies, with the methods' names in brackets.
    """
    sources = np.concatenate([one.sources for one in injections])
    counted = np.concatenate([truth.counted for truth in truths])
    seen = {name: _matched(tables, truths) for name, tables in found.items()}
    rows = []
    for low, high in pairwise(SNR_BINS):
        row = {"S/N": f"{low:g}-{high:g}"}
        within = counted & (sources["snr"] >= low) & (sources["snr"] < high)
        for kind, form in ((STAR, "{}"), (GALAXY, "({})")):
            chosen = within & (sources["kind"] == kind)
            row[form.format("n")] = np.count_nonzero(chosen)
            for name, one in seen.items():
                row[form.format(name)] = float(one[chosen].mean()) if chosen.any() else np.nan
        rows.append(row)
    return rows


def _matched(tables, truths):
    """(n,) bool: the injected sources of all frames that a method found."""
    flags = []
    for table, truth in zip(tables, truths, strict=True):
        flag = np.zeros(truth.x.size, dtype=bool)
        _, source = match(table, truth)
        flag[source[source >= 0]] = True
        flags.append(flag)
    return np.concatenate(flags)


def flux_rows(target, injections, truths, parts):
    """A row for each bin of S/N: measured over true flux of the stars that are scored.

    In a circle of radius 1 FWHM at the true place, whether they are detected or not: on bgrem's
    sources, and on the data without bgrem's background.
    """
    columns = []
    for one, truth, part in zip(injections, truths, parts, strict=True):
        chosen = truth.counted & (one.sources["kind"] == STAR)
        place = truth.x[chosen], truth.y[chosen], target.fwhm
        true = aperture_fluxes(one.light, *place)
        planes = part.sources, one.data - part.background
        ratios = [aperture_fluxes(plane, *place) / true for plane in planes]
        columns.append([truth.snr[chosen], *ratios])
    snr, *ratios = np.concatenate(columns, axis=1)
    rows = []
    for low, high in pairwise(SNR_BINS):
        row = {"S/N": f"{low:g}-{high:g}"}
        for name, ratio in zip(("sources", "original"), ratios, strict=True):
            chosen = ratio[(snr >= low) & (snr < high)]
            row[name], row[f"{name}, scatter"], row["n"] = median_and_scatter(chosen)
        rows.append(row)
    return rows


def summary_table(results):
    """`summary_rows` as text."""
    return text_table(summary_rows(results))


def summary_rows(results):
    """A row for each frame: depth of every method, bgrem's gains in magnitudes, its flux.

    The flux is the median of measured over true, on the sources, of stars with an S/N of `FLUX_BIN`.
    The last row holds the medians of all frames.

    Parameters
    ----------
    results : list of InjectionReport

    Returns
    -------
    list of dict
    """
    rows = []
    for result in results:
        methods = {row["method"]: row for row in result.methods}
        row = {"frame": result.name, "FWHM": result.facts["FWHM"], "scored": result.facts["scored"]}
        row |= {f"S/N, {name}": one["S/N at 50 %"] for name, one in methods.items()}
        if BGREM in methods:
            row |= {
                f"mag on {short}": methods[BGREM][f"mag on {short}"] for short in DEPTH_REFERENCES
            }
        if result.flux:
            name = f"flux, S/N {FLUX_BIN}"
            row[name] = next(one["sources"] for one in result.flux if one["S/N"] == FLUX_BIN)
        rows.append(row)
    return [*rows, _medians(rows)]


def _medians(rows):
    """The median of each column of numbers; nan where no frame knows it."""
    middle = {"frame": "median"}
    for name in list(rows[0])[1:]:
        values = np.array([row[name] for row in rows], dtype=np.float64)
        known = values[np.isfinite(values)]
        middle[name] = float(np.median(known)) if known.size else np.nan
    return middle


def _short(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)
