"""Several frames as one: true detections of all, each frame at a rate that its own area allows.

Frames of different instruments cannot be scored as one list: a threshold means another thing in each.
So each keeps its own threshold, and the counts are added. Intervals draw the blocks of each frame for
itself, the same ones for both methods of a ratio.
"""

import numpy as np

from bgrem.evaluate.comparison import MATCHED_FILTER, SEXTRACTOR
from bgrem.evaluate.froc import RATES, block_weights, interval

#: What pooled ratios refer to.
REFERENCES = (SEXTRACTOR, MATCHED_FILTER)
LOWEST = "lowest allowed"


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
            for reference in (one for one in REFERENCES if one in samples):
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = samples[name] / samples[reference]
                row[f"/ {reference}"] = ratio[0]
                row[f"68 % / {reference}"] = interval(ratio[1:])
            rows.append(row)
    return rows


def _choices(reports):
    """Label -> the frames that count and the rate of each."""
    choices = {LOWEST: []}
    for rate in RATES:
        allowed = [one for one in reports if _area_of(one).allowed(rate)]
        known = [one for one, _ in choices[LOWEST]]
        choices[LOWEST] += [(one, rate) for one in allowed if one not in known]
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
