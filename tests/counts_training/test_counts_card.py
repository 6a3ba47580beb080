"""What a card says, measured with separations whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from bgrem.counts_training.counts_card import (
    BLANK_SEED,
    WITH_EXPOSURE,
    WITHOUT_EXPOSURE,
    blank_skies,
    false_alarm_rows,
    measure_false_alarms,
    measure_variance_factors,
)
from bgrem.counts_training.counts_evaluation import counts_methods, evaluate_counts
from bgrem.counts_training.counts_froc import counts_groups


def noise(counts, **_):
    """A separation whose significance is white noise that does not depend on the map."""
    rng = np.random.default_rng(int(counts.sum()))
    return SimpleNamespace(significance=rng.normal(size=counts.shape[1:]))


def teller(sky_of, error=0.0):
    """A separation that knows the truth of the map that it is given, with errors of the sources."""

    def separate(counts, **_):
        sky = sky_of[counts.tobytes()]
        rng = np.random.default_rng(int(counts.sum()))
        sources = sky.sources + error * rng.normal(size=counts.shape)
        return SimpleNamespace(
            sources=sources, background=sky.background, variance=np.ones(counts.shape),
            significance=np.log(1e-6 + sky.sources.sum(axis=0)),
        )  # fmt: skip

    return separate


def test_maps_without_sources_have_the_level_that_is_asked():
    for level in (0.1, 10.0):
        skies = list(blank_skies(level, 3))
        assert all(len(sky.truth) == 0 and not sky.sources.any() for sky in skies)
        assert np.mean([sky.background.mean() for sky in skies]) == pytest.approx(level, rel=0.3)
        assert np.array_equal(skies[1].counts, list(blank_skies(level, 2))[1].counts)


def test_thresholds_allow_the_rates_that_the_card_says():
    # The maps of `false_alarm_rows`.
    tables = {
        given: np.array(
            measure_false_alarms(noise, blank_skies(3.0, 16, seed=BLANK_SEED + 1), known=known)
        ).T
        for given, known in ((True, WITH_EXPOSURE), (False, WITHOUT_EXPOSURE))
    }
    for thresholds, rates in tables.values():
        assert np.all(np.diff(thresholds) > 0) and np.all(np.diff(rates) < 0)

    def threshold_for(rate, *, exposure):
        thresholds, rates = tables[exposure]
        return np.interp(-np.log(rate), -np.log(rates), thresholds)

    rows = false_alarm_rows(noise, threshold_for, levels=(3.0,), number=16)
    assert [row["exposure"] for row in rows] == ["given", "not given"]
    for row in rows:
        for rate in (10.0, 100.0):
            found, error = (float(part) for part in row[f"card {rate:g}"].split(" +- "))
            assert found == pytest.approx(rate, abs=error)
        # Sixteen maps are too few to leave one out.
        assert row["all maps, 100"] == pytest.approx(float(row["card 100"].split()[0]), abs=0.01)


def test_one_map_in_twenty_does_not_set_the_threshold():
    def separate(counts, **known):
        parts = noise(counts, **known)
        if counts.tobytes() == worst:
            parts.significance = parts.significance + 50
        return parts

    skies = list(blank_skies(3.0, 20))
    worst = skies[7].counts.tobytes()
    with_it, without = measure_false_alarms(separate, skies), measure_false_alarms(noise, skies)
    thresholds = {rate: s for s, rate in without}
    assert all(abs(s - thresholds[rate]) < 0.5 for s, rate in with_it if rate in thresholds)


def test_variance_factors_are_squared_errors():
    groups = counts_groups(
        {"seed": 3, "kind": {"a": {"levels": [1], "number": 6, "scene": {"shape": [64, 64]}}}}
    )
    skies = list(groups[0].skies())
    table = measure_variance_factors(
        teller({sky.counts.tobytes(): sky for sky in skies}, 2.0), skies
    )
    assert len(table) >= 1
    places, factors = np.array(table).T
    assert np.all(np.diff(places) > 0)
    # The bins are by the measured sources: those of small errors hold small errors, most pixels have about 4.
    assert factors.max() > 3


def test_all_tables_of_a_separation_that_knows_the_truth():
    scene = {"shape": [80, 80], "density": 25.0, "extended": 0.0, "fwhm": 3.0}
    groups = counts_groups(
        {"seed": 4, "kind": {"patch": {"levels": [2], "number": 3, "pixel": 0.1, "scene": scene,
                                       "methods": ["bgrem", "SEP", "Li"]}}}
    )  # fmt: skip
    sky_of = {sky.counts.tobytes(): sky for sky in groups[0].skies()}
    tables = evaluate_counts(teller(sky_of), groups, others=False)
    title = next(iter(tables))
    assert title.startswith("true detections")
    row = tables[title][-1]
    assert row["bgrem"] > row["SEP"] and "TS, true background" not in row
    (flux,) = tables["flux of sources of S/N 5 and above"]
    assert flux["sources"] > 3 and flux["light in aperture / true"] == pytest.approx(1)
    assert flux["median flux / true"] == pytest.approx(1, abs=0.25)
    (total,) = tables["sum of sources and background over counts"]
    assert total["sum / counts"] == pytest.approx(1, abs=4 * total["Poisson error"])
    assert {row["method"] for row in tables["time"]} >= {"bgrem", "SEP", "Li & Ma"}


def test_methods_are_given_what_their_names_say():
    groups = counts_groups(
        {"seed": 4, "kind": {"a": {"levels": [1], "number": 1, "scene": {"shape": [32, 32]}}}}
    )
    sky, asked = next(groups[0].skies()), {}

    def separate(counts, **known):
        asked[name] = set(known)
        return SimpleNamespace(significance=known.get("template", counts)[0])

    for name, method in counts_methods(separate).items():
        shown = method(sky)
        if name == "bgrem, no isotropic":
            assert shown.min() == pytest.approx(0, abs=1e-5)
    everything = {"exposure", "template", "psf"}
    assert asked == {
        "bgrem": everything, "bgrem, no isotropic": everything, "bgrem, no diffuse": everything,
        "bgrem, PSF only": {"psf"}, "bgrem, nothing": set(),
    }  # fmt: skip
