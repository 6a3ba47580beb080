"""Detections on counts maps against their truth: perfect and blind methods, matching, groups of maps, kept detections."""

import numpy as np
import pytest

from bgrem.counts_scenes.poisson_scene import CountsScene, draw_counts
from bgrem.counts_training.counts_froc import (
    counts_groups,
    curve_of_maps,
    detections_of_score,
    field_fwhm,
    froc_rows,
    near_extended,
    psf_area,
    read_counts_groups,
    score_groups,
    truth_of_counts,
)
from bgrem.detection.peaks import detection_table

KIND = {
    "levels": [0.5, 5.0], "number": 3, "pixel": 0.1,
    "scene": {"shape": [64, 64], "density": 90.0, "extended": 0.0}, "vary": {"fwhm": [2.0, 4.0]},
}  # fmt: skip


@pytest.fixture(scope="module")
def groups():
    return counts_groups({"seed": 5, "kind": {"patch": KIND}})


def perfect(sky):
    """A score that knows where the sources are."""
    found = sky.truth[(sky.truth["kind"] == 0) & (sky.truth["snr"] >= 2)]
    return detection_table(found["x"], found["y"], found["snr"])


def blind(sky):
    return np.random.default_rng(int(sky.counts.sum())).normal(size=sky.counts.shape[1:])


def test_a_perfect_score_finds_all_and_a_blind_one_what_chance_allows(groups):
    scored = score_groups(groups, {"perfect": perfect, "blind": blind})
    for one in scored:
        curve = one.curves["perfect"]
        assert curve.count > 5 and curve.true_positives(0.01) == curve.count
        noise = one.curves["blind"]
        # Of all peaks of noise, as many are matched as chance brings near a source.
        rate = np.count_nonzero(noise.source < 0) / noise.area
        expected = min(noise.chance_matches(rate), noise.count)
        assert noise.true_positives(0.1) <= noise.chance_matches(0.1) + 4 < curve.count
        assert noise.true_positives(rate) <= expected + 4 * np.sqrt(expected) + 3


def test_a_source_is_matched_to_one_detection(groups):
    sky = next(groups[0].skies())
    truth = truth_of_counts(sky)
    source = np.flatnonzero(truth.counted)[0]
    x, y = truth.x[source], truth.y[source]
    pair = detection_table([x, x + 0.5], [y, y], [9.0, 8.0])
    curve = curve_of_maps([pair], [truth], [0.01])
    assert np.count_nonzero(curve.source >= 0) == 1
    # The second is close to a source: it is not an invention.
    assert not np.any(curve.source < 0)
    assert curve.area == pytest.approx(0.01 * np.count_nonzero(truth.usable))
    assert truth.radius == max(1.5, 0.5 * field_fwhm(sky))


def test_what_is_near_extended_sources_is_not_scored():
    scene = CountsScene(shape=(96, 96), extended=6.0, density=0.0, largest_radius=12.0)
    sky = draw_counts(scene, np.random.default_rng(3))
    wide = sky.truth[sky.truth["kind"] == 1]
    assert len(wide) > 0
    truth, near = truth_of_counts(sky), near_extended(sky)
    x, y = np.rint(wide["x"][0]).astype(int), np.rint(wide["y"][0]).astype(int)
    assert near[np.clip(y, 0, 95), np.clip(x, 0, 95)]
    assert not np.any(truth.blank & near) and np.any(truth.blank)


def test_the_area_is_that_of_the_psf():
    sky = draw_counts(CountsScene(shape=(32, 32)), np.random.default_rng(0))
    assert psf_area(field_fwhm(sky)) == pytest.approx(1 / (sky.psf[0].astype(float) ** 2).sum())


def test_maps_depend_on_nothing_but_their_number(groups):
    first, again = list(groups[0].skies(2)), list(groups[0].skies(1))
    assert np.array_equal(first[0].counts, again[0].counts)
    assert not np.array_equal(first[0].counts, first[1].counts)
    assert groups[0].unit == "deg2" and groups[0].rates == (0.01, 0.1)


def test_groups_without_a_pixel_size_count_by_areas(groups):
    (group,) = counts_groups(
        {"seed": 5, "kind": {"x": {"levels": [1], "number": 1, "methods": ["bgrem"]}}}
    )
    sky = next(groups[0].skies())
    assert group.rates == (1.0, 10.0)
    assert group.pixel_area(sky) * 1e4 * psf_area(field_fwhm(sky)) == pytest.approx(1)
    assert group.compares("bgrem, PSF only") and not group.compares("SEP")


def test_detections_are_kept_but_those_of_bgrem(groups, tmp_path):
    calls = []

    def method(sky):
        calls.append(1)
        return blind(sky)

    for _ in range(2):
        scored = score_groups(
            groups[:1], {"bgrem": method, "other": method}, number=1, folder=tmp_path
        )
    assert len(calls) == 3 and len(list(tmp_path.iterdir())) == 1
    kept, measured = (scored[0].curves[name].score for name in ("other", "bgrem"))
    assert np.array_equal(kept, measured)


def test_rows_of_ratios(groups):
    scored = score_groups(groups, {"a": perfect, "b": perfect, "c": blind})
    counts, ratios = froc_rows(scored, [("a", "b"), ("a", "absent")], resamples=20)
    assert len(counts) == len(ratios) == 2 * 3
    assert all(row["a / b"] == "1.000 (1.000-1.000)" for row in ratios)
    assert all(row["a / absent"] is None for row in ratios)
    whole = [row for row in counts if row["counts/px"] == "all"]
    assert whole[0]["a"] == sum(row["a"] for row in counts[:2])
    # Six maps of 0.4 square degrees allow less than ten false detections.
    assert counts[0]["sources"].endswith("*")


def test_a_score_map_may_have_gaps():
    score = np.full((9, 9), np.nan)
    score[4, 4] = 2.0
    found = detections_of_score(score)
    assert found["score"].tolist() == [2.0] and found["x"][0] == 4


def test_files_that_describe_no_groups_are_refused(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("seed = ")
    with pytest.raises(ValueError, match="not TOML"):
        read_counts_groups(path)
    path.write_text("seed = 1")
    with pytest.raises(ValueError, match="kind"):
        read_counts_groups(path)
