"""Tables of the wide light benchmark, from records of frames.

A record is a dictionary of the method, of the group (the kind of sky, or the file), of the planted light, and of the
figures.
"""

import numpy as np

__all__ = [
    "BARS",
    "FIGURES",
    "POINTS",
    "SIGNIF",
    "bars",
    "by_brightness",
    "by_group",
    "by_light",
    "extended",
    "summary",
    "without_fringes",
]

FIGURES = ("abs(flux - 1)", "sources", "outside", "under")
#: Light of stars and small galaxies in the wide light; change of SIGNIF.
POINTS, SIGNIF = "points", "SIGNIF"
#: A kind of sky that is narrower than the cells of every mesh.
NARROW = "fringes"
#: Figure, which of its values, brightness (0: all), and the bar.
BARS = (
    ("abs(flux - 1)", "mean", 0, 0.02), ("abs(flux - 1)", "worst", 0, 0.06),
    ("outside", "mean", 0, 0.006), ("under", "mean", 0, 0.014),
    ("sources", "worst", 10, 0.90), ("sources", "worst", 1, 0.80),
)  # fmt: skip


# ---- groups: frames of one kind of sky, of which the median counts --------------------------------------------


def unique(records, key):
    """The values of a key, in the order in which they appear."""
    return list(dict.fromkeys(record[key] for record in records))


def known(values):
    """Those that are finite."""
    return [value for value in values if np.isfinite(value)]


def middle_of(values, middle=np.median):
    """The median (or mean) of the finite values, NaN if there is none."""
    values = known(values)
    return float(middle(values)) if values else np.nan


def medians(records, method, figure):
    """The median of the frames of each group: group -> value."""
    mine = [record for record in records if record["method"] == method]
    return {
        group: middle_of(record[figure] for record in mine if record["group"] == group)
        for group in unique(records, "group")
    }


def without_fringes(records):
    """Records of the other kinds of sky."""
    return [record for record in records if record["group"] != NARROW]


def worst_of(values, figure):
    """The group that is farthest from the right value, and its value; None where there is none."""
    right = 1.0 if figure == "sources" else 0.0
    values = {group: value for group, value in values.items() if np.isfinite(value)}
    group = max(values, key=lambda name: abs(values[name] - right), default=None)
    return group and (group, values[group])


def worst(values, figure):
    """The worst group with its value, as text."""
    found = worst_of(values, figure)
    return f"{found[1]:.3g} {found[0][:20]}" if found else "-"


# ---- tables ----------------------------------------------------------------------------------------------------


def summary(records, middle=np.mean):
    """A row for each method: the mean (or median) of the groups and the worst group."""
    rows = []
    for method in unique(records, "method"):
        mine = [record for record in records if record["method"] == method]
        row = {"method": method}
        for figure in FIGURES:
            values = medians(records, method, figure)
            row |= {
                figure: middle_of(values.values(), middle),
                f"worst {figure}": worst(values, figure),
            }
        row["frames"] = len(known(record["under"] for record in mine))
        rows.append({**row, "seconds": middle_of(record["seconds"] for record in mine)})
    return rows


def bars(records, method):
    """A row for each bar with what a method reaches, with and without fringes."""
    rows = []
    for figure, which, brightness, bar in BARS:
        name = f"{which} {figure}" + (f" at {brightness} rms" if brightness else "")
        row = {"figure": name, "bar": bar}
        mine = [r for r in records if not brightness or r["brightness"] == brightness]
        for column, chosen in (("all kinds", mine), ("without fringes", without_fringes(mine))):
            value = reached(chosen, method, figure, which)
            row[column] = value
            row[f"{column}: within"] = value >= bar if figure == "sources" else value <= bar
        rows.append(row)
    return rows


def reached(records, method, figure, which):
    """The mean of the groups, or the value of the worst."""
    values = medians(records, method, figure)
    if which == "mean":
        return middle_of(values.values(), np.mean)
    if figure == "sources":
        return min(known(values.values()), default=np.nan)
    return (worst_of(values, figure) or (None, np.nan))[1]


def by_group(records, figure, middle=np.mean, over=()):
    """A row for each group with the median of each method, and their mean (or median).

    ``over`` are pairs of methods, whose ratios are further columns.
    """
    methods = unique(records, "method")
    columns = {method: medians(records, method, figure) for method in methods}
    groups = unique(records, "group")
    rows = [{"sky": group, **{m: columns[m][group] for m in methods}} for group in groups]
    means = {middle.__name__: groups}
    if NARROW in groups and len(groups) > 1:
        means[f"{middle.__name__} without {NARROW}"] = [g for g in groups if g != NARROW]
    for name, chosen in means.items():
        values = {m: middle_of((columns[m][g] for g in chosen), middle) for m in methods}
        rows.append({"sky": name, **values})
    for row in rows:
        for one, other in over:
            row[f"{one} / {other}"] = row[one] / row[other] if row[other] else np.nan
    return rows


def by_brightness(records):
    """`sources` by brightness: the mean of the kinds of sky, the least, and the median of each profile."""
    rows = []
    for brightness in sorted(unique(records, "brightness")):
        same = [r for r in records if r["brightness"] == brightness]
        for method in unique(same, "method"):
            values = medians(same, method, "sources")
            if not known(values.values()):
                continue
            least = min(known(values.values()))
            mine = [r for r in same if r["method"] == method]
            row = {
                "brightness": f"{brightness:g} rms", "method": method,
                "mean": middle_of(values.values(), np.mean), "least": least,
                "in": next(group for group in values if values[group] == least),
            }  # fmt: skip
            for profile in sorted(unique(records, "profile")):
                row[profile] = middle_of(r["sources"] for r in mine if r["profile"] == profile)
            rows.append({**row, "frames": len(mine)})
    return rows


def extended(records, methods):
    """What becomes of light in `methods`: medians of the frames, and of SIGNIF the largest change."""
    rows = []
    for method in methods:
        mine = [record for record in records if record["method"] == method]
        row = {"method": method}
        for profile in sorted(unique(records, "profile")):
            chosen = [record["sources"] for record in mine if record["profile"] == profile]
            row[f"sources of a {profile}"] = middle_of(chosen)
        row[POINTS] = middle_of(record[POINTS] for record in mine)
        row[f"least {POINTS}"] = min(known(r[POINTS] for r in mine), default=np.nan)
        row[f"largest change of {SIGNIF}"] = max(known(r[SIGNIF] for r in mine), default=np.nan)
        rows.append(row)
    return rows


def by_light(records):
    """A row for each profile, radius and brightness: the median of each method over all kinds of sky."""
    rows = []
    for key, unit in (("profile", ""), ("radius", " px"), ("brightness", " rms")):
        for value in sorted(unique(records, key)):
            row = {"light": f"{key} {value}" if not unit else f"{key} {value:g}{unit}"}
            for method in unique(records, "method"):
                same = [r for r in records if r[key] == value and r["method"] == method]
                row |= {method: middle_of(r["abs(flux - 1)"] for r in same)}
            rows.append(row)
    return rows
