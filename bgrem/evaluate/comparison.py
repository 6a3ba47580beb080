"""Methods side by side on the same frames: a table, a plot and the numbers behind them.

`evaluate_frames` scores the methods on frames of one kind. `pooled_rows` adds the counts of several reports.
Frames of different instruments cannot be scored as one list: a threshold means another thing in each.
So each keeps its own threshold. The bootstrap draws the blocks of each frame separately, the same
ones for both methods of a ratio.
"""

import subprocess
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import numpy as np

from bgrem.evaluate.bootstrap import block_weights, compare, depth_gain, interval
from bgrem.evaluate.froc import FALSE_RATES, Froc, froc
from bgrem.evaluate.methods import BGREM, MATCHED_FILTER, SCANNED, SEXTRACTOR
from bgrem.evaluate.tables import write_json
from bgrem.storage.names import home_path

__all__ = ["LOWEST_RATE", "Report", "evaluate_frames", "headline", "pooled_rows"]

#: The methods that ratios refer to, one frame or one list at a time, and in pooled frames.
REFERENCE_METHODS = (SEXTRACTOR, SCANNED, MATCHED_FILTER)
POOLED_REFERENCES = (SEXTRACTOR, MATCHED_FILTER)
LOWEST_RATE = "lowest allowed"
_HEADING = (
    f"{'method':18s} {'false/Mpix':>10s} {'true':>6s} {'68 %':^13s} {'chance':>6s}"
    f"   {'/ sextractor default':19s}  {'/ sextractor scanned':19s}  {'/ matched filter':19s}"
    "   depth gain, mag"
)


@dataclass(frozen=True)
class Report:
    """Scored curves of several methods on the same frames.

    Attributes
    ----------
    title : str
    curves : dict
        Name -> `bgrem.evaluate.froc.Froc`.
    absent : dict
        Name -> why the method was not run.
    blank : float
        Part of the usable area in which detections can be false.
    """

    title: str
    curves: dict
    absent: dict
    blank: float

    def rows(self, *, resamples=500, seed=0):
        """A dict per method and rate: counts, ratios to the references, depth gains."""
        rows = []
        for name, curve in self.curves.items():
            against = {
                reference: compare(
                    curve, self.curves[reference], rng=np.random.default_rng(seed),
                    resamples=resamples,
                )
                for reference in REFERENCE_METHODS if reference in self.curves
            }  # fmt: skip
            own = compare(curve, curve, rng=np.random.default_rng(seed), resamples=resamples)
            for i, entry in enumerate(own):
                row = {"method": name, **asdict(entry)}
                del row["ratio"], row["ratio_interval"]
                for reference, entries in against.items():
                    row[f"ratio to {reference}"] = entries[i].ratio
                    row[f"ratio to {reference}, interval"] = entries[i].ratio_interval
                row["limiting S/N"] = curve.limiting_snr(entry.rate)
                gain = depth_gain(
                    curve, self.curves.get(SCANNED, curve), rate=entry.rate,
                    rng=np.random.default_rng(seed), resamples=min(resamples, 200),
                )  # fmt: skip
                row["depth gain (mag)"], row["depth gain, interval"] = gain
                rows.append(row)
        self._add_headline(rows, resamples=min(resamples, 200), seed=seed)
        return rows

    def _add_headline(self, rows, *, resamples, seed):
        """To bgrem's row of the lowest rate: its depth gains on every reference."""
        ours = [row for row in rows if row["method"] == BGREM][:1]
        for row in ours:
            for reference in (name for name in REFERENCE_METHODS if name in self.curves):
                row[f"depth gain on {reference}"] = depth_gain(
                    self.curves[BGREM], self.curves[reference], rate=row["rate"],
                    rng=np.random.default_rng(seed), resamples=resamples,
                )  # fmt: skip

    def table(self, rows=None):
        """The report as text."""
        rows = self.rows() if rows is None else rows
        first = next(iter(self.curves.values()))
        lines = [
            f"{self.title}: {first.count} sources, {first.area:.3f} Mpix, {self.blank:.0%} blank",
            _HEADING,
        ]
        for row in rows:
            low, high = row["true_interval"]
            text = f"{row['method']:18s} {row['rate']:10.0f} {row['true']:6.0f}"
            text += f" {low:6.0f}-{high:<6.0f} {row['chance']:6.1f}"
            for reference in REFERENCE_METHODS:
                if f"ratio to {reference}" in row:
                    low, high = row[f"ratio to {reference}, interval"]
                    text += f"   {row[f'ratio to {reference}']:.3f} ({low:.3f}-{high:.3f})"
            low, high = row["depth gain, interval"]
            text += f"   {row['depth gain (mag)']:+.3f} ({low:+.3f} {high:+.3f})"
            lines.append(text + ("" if row["complete"] else "  list ends before this rate"))
        lines += [f"{name:18s} {reason}" for name, reason in self.absent.items()]
        lines += headline(rows)
        if not rows:
            lines.append("the area is too small for ten false detections at any rate")
        return "\n".join(lines)

    def write(self, folder, name, *, rows=None, plot=True):
        """Write ``name.json``, ``name.csv`` and, with matplotlib, ``name.png``.

        Returns
        -------
        list of pathlib.Path
        """
        rows = self.rows() if rows is None else rows
        folder = home_path(folder)
        first = next(iter(self.curves.values()))
        summary = {
            "title": self.title, "sources": first.count, "area_mpix": first.area,
            "blank": self.blank, "chance": first.chance, "absent": self.absent, "rows": rows,
        }  # fmt: skip
        written = [folder / f"{name}.json", folder / f"{name}.csv"]
        write_json(written[0], summary)
        points = ["method,score,false_per_mpix,true"]
        for method, curve in self.curves.items():
            points += [f"{method},{score:.6g},{false:.6g},{true:d}" for score, false, true in
                       zip(*_steps(curve), strict=True)]  # fmt: skip
        written[1].write_text("\n".join(points) + "\n")
        if plot and find_spec("matplotlib"):
            written.append(folder / f"{name}.png")
            self.plot(written[-1])
        return written

    def plot(self, path):
        """FROC of all methods, and their completeness at the lowest rate that is allowed."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.5, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        first = next(iter(self.curves.values()))
        rate = next((rate for rate in FALSE_RATES if first.allowed(rate)), FALSE_RATES[-1])
        snr = np.geomspace(2.0, 60.0, 80)
        for name, curve in self.curves.items():
            _, false, true = _steps(curve)
            left.plot(false, true, label=name)
            right.plot(snr, curve.completeness(rate, snr), label=name)
        left.set(xscale="log", xlabel="false detections per Mpix", ylabel="true detections")
        left.set(xlim=(max(1.0, 1.0 / first.area), 1000.0))
        left.legend(fontsize=7)
        right.axhline(0.5, color="0.7", lw=0.8)
        right.set(xscale="log", xlabel="S/N of the source", ylim=(0, 1.02))
        right.set(ylabel=f"completeness at {rate:.0f} false per Mpix")
        right.minorticks_off()
        right.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
        figure.suptitle(self.title)
        figure.savefig(path, dpi=75)


def headline(rows):
    """Lines that say what bgrem gains at the lowest rate: depth first, then true detections.

    Parameters
    ----------
    rows : list of dict
        As `Report.rows` gives.

    Returns
    -------
    list of str
    """
    lines = []
    for row in rows:
        for reference in (name for name in REFERENCE_METHODS if f"depth gain on {name}" in row):
            if not lines:
                lines.append(
                    f"bgrem at {row['rate']:.0f} false per Mpix: depth gain at 50 % completeness, "
                    "ratio of true detections"
                )
            gain, (low, high) = row[f"depth gain on {reference}"]
            text = f"on {reference:18s} {gain:+.3f} mag ({low:+.3f} {high:+.3f})"
            low, high = row[f"ratio to {reference}, interval"]
            ratio = row[f"ratio to {reference}"]
            lines.append(f"{text}   {ratio:.3f} ({low:.3f}-{high:.3f})")
    return lines


def _steps(curve: Froc, deepest=2000.0):
    """Score, false per Mpix and true detections where the curve's false count rises."""
    false = np.cumsum(curve.source < 0)
    true = np.cumsum(curve.source >= 0)
    ends = np.flatnonzero(curve.source < 0)
    ends = ends[: np.searchsorted(false[ends], deepest * curve.area)]
    return curve.score[ends], false[ends] / curve.area, true[ends]


def evaluate_frames(frames, chosen, *, title, progress=None):
    """Run methods on frames and score them.

    Parameters
    ----------
    frames : iterable of BenchmarkFrame
        Looked at one by one: only their truth is kept.
    chosen : dict
        As `bgrem.evaluate.methods.comparison_methods` gives.
    title : str
    progress : callable, optional
        Called with a sentence before each run.

    Returns
    -------
    Report
    """
    truths, found, absent = [], {name: [] for name in chosen}, {}
    for frame in frames:
        truths.append(frame.truth)
        for name in [name for name in chosen if name not in absent]:
            if progress:
                progress(f"{frame.name}: {name}")
            try:
                found[name].append(chosen[name](frame))
            except ModuleNotFoundError as missing:
                absent[name] = f"{missing.name} is not installed"
            except FileNotFoundError as missing:
                absent[name] = str(missing)
            except subprocess.CalledProcessError as failed:
                # The other methods can be compared all the same.
                said = (failed.stderr or b"").decode(errors="replace").strip().splitlines()
                absent[name] = f"failed on {frame.name}: {said[-1] if said else failed}"
    curves = {name: froc(found[name], truths) for name in chosen if name not in absent}
    blank = sum(np.count_nonzero(truth.blank) for truth in truths)
    usable = sum(np.count_nonzero(truth.usable) for truth in truths)
    return Report(title, curves, absent, blank / usable)


def pooled_rows(reports, *, resamples=1000, seed=0):
    """A row for each method and rate: true detections of all frames, ratios to the references.

    Parameters
    ----------
    reports : list of bgrem.evaluate.comparison.Report
        One for each frame.
    resamples : int
        Number of bootstrap resamples.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        First with each frame at the lowest rate that its area allows, then at each rate that two
        frames at least allow.  Methods that were not run on every frame are left out.
    """
    names = [name for name in reports[0].curves if all(name in one.curves for one in reports)]
    rows = []
    for label, chosen in _choices(reports).items():
        samples = {name: _counts(chosen, name, resamples, seed) for name in names}
        for name in names:
            row = {"method": name, "false/Mpix": label, "frames": len(chosen),
                   "true": samples[name][0]}  # fmt: skip
            for reference in (one for one in POOLED_REFERENCES if one in samples):
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = samples[name] / samples[reference]
                row[f"/ {reference}"] = ratio[0]
                row[f"68 % / {reference}"] = interval(ratio[1:])
            rows.append(row)
    return rows


def _choices(reports):
    """Label -> the frames that count and the rate of each."""
    choices = {LOWEST_RATE: []}
    for rate in FALSE_RATES:
        allowed = [one for one in reports if _area_of(one).allowed(rate)]
        known = [one for one, _ in choices[LOWEST_RATE]]
        choices[LOWEST_RATE] += [(one, rate) for one in allowed if one not in known]
        if len(allowed) > 1:
            choices[f"{rate:g}"] = [(one, rate) for one in allowed]
    return {label: chosen for label, chosen in choices.items() if chosen}


def _area_of(report):
    """Any of its curves: all stand for the same area."""
    return next(iter(report.curves.values()))


def _counts(chosen, name, resamples, seed):
    """True detections of all frames, as counted and then in each resample."""
    total = np.zeros(1 + resamples)
    for number, (report, rate) in enumerate(chosen):
        curve = report.curves[name]
        # The seed makes the blocks the same for every method.
        rng = np.random.default_rng([seed, number])
        weights = block_weights(curve, resamples, rng)
        total[0] += curve.true_positives(rate)
        total[1:] += [curve.true_positives(rate, weight) for weight in weights]
    return total
