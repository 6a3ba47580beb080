"""Summed pixels, tiles and diffusion steps of counts maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgrem.counts.bands import separate_bands
from bgrem.counts.counts_input import area_fwhm, counts_input, fitted_psf, gaussian_image
from bgrem.counts.rebinning import rebinned_psf, spread_evenly, spread_smoothly, summed


class Prior:
    """A network that gives the prior as background, a hundredth of it as sources, and remembers its input."""

    tile, overlap, multiple = 64, 32, 32

    def __init__(self):
        self.given = []

    def __call__(self, planes, kernel, frame):
        self.given.append((planes, kernel, frame))
        prior = planes[:, 1]
        return np.stack([0.01 * prior, prior, prior, 0 * prior], 1)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(3, 40), st.integers(3, 40)),
    factor=st.sampled_from([2, 4, 8]),
    seed=st.integers(0, 99),
)
def test_counts_stay_counts(shape, factor, seed):
    counts = np.random.default_rng(seed).poisson(0.7, shape)
    coarse = summed(counts, factor)
    assert coarse.dtype == counts.dtype and coarse.sum() == counts.sum()
    fine = spread_smoothly(coarse, factor, shape[1:])
    assert fine.shape == shape and (fine >= 0).all()
    assert np.allclose(summed(fine, factor), coarse)


def test_a_slope_is_spread_without_steps():
    coarse = np.arange(12.0)[None, None] * np.ones((1, 12, 1))
    fine = spread_evenly(coarse, 4, (48, 48))[0, 20]
    assert np.allclose(np.diff(fine[2:-2]), 0.25)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_rebinned_psf_is_that_of_summed_sources(factor):
    """The mean over the places of a source in its summed pixel."""
    psf = gaussian_image(9.0, 61).astype(float)
    side = 24 * factor
    total = np.zeros((24, 24))
    for y in range(factor):
        for x in range(factor):
            frame = np.zeros((side, side))
            top, left = 12 * factor + y, 12 * factor + x
            rows, columns = (np.arange(-30, 31) + start for start in (top, left))
            inside = [(0 <= places) & (places < side) for places in (rows, columns)]
            frame[np.ix_(rows[inside[0]], columns[inside[1]])] = psf[np.ix_(*inside)]
            total += summed(frame[None], factor)[0] / factor**2
    found = rebinned_psf(psf, factor)
    half = found.shape[0] // 2
    reach = min(half, 6)
    cut = [slice(12 - reach, 13 + reach)] * 2
    own = found[half - reach : half + reach + 1, half - reach : half + reach + 1]
    assert np.allclose(own, total[tuple(cut)], atol=1e-5)


def test_an_image_of_the_psf_is_cut_and_padded():
    for side in (9, 31, 75):
        image = fitted_psf(gaussian_image(4.0, side))
        assert image.shape == (31, 31) and image.sum() == pytest.approx(1)
        assert np.array_equal(image, image.T) and image.argmax() == 15 * 31 + 15
    assert area_fwhm(fitted_psf(gaussian_image(4.0, 75))) == pytest.approx(4.0, rel=0.01)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(16, 150), st.integers(16, 150)),
    fwhm=st.sampled_from([2.0, 9.0, 20.0, 60.0]),
    steps=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_sum_is_that_of_the_counts(shape, fwhm, steps, seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.3, (2, *shape))
    seen = rng.random(counts.shape) < 0.9
    psf = gaussian_image(fwhm, 2 * int(2 * fwhm) + 1)[None]
    parts = separate_bands(counts, model=Prior(), seen=seen, psf=psf, steps=steps)
    for k in range(2):
        total = float(parts.sources[k].sum(dtype=float) + parts.background[k].sum(dtype=float))
        assert total == pytest.approx(counts[k][seen[k]].sum(), rel=1e-5)
        assert not parts.sources[k][~seen[k]].any() and not parts.background[k][~seen[k]].any()
    assert (parts.variance >= 0).all() and np.isfinite(parts.significance).all()


@pytest.mark.parametrize("fwhm", [3.0, 20.0])
def test_a_template_keeps_its_shape_whatever_its_unit(fwhm):
    """The background has the template's shape, also on summed pixels, and where it is 0 nothing is lost."""
    counts = np.random.default_rng(3).poisson(4.0, (1, 96, 96))
    template = 1 + np.indices((96, 96))[1] / 20.0
    template[:, :16] = 0
    psf = gaussian_image(fwhm, 61)[None]
    units = [
        separate_bands(counts, model=Prior(), template=unit * template[None], psf=psf).background
        for unit in (1.0, 1e-30, 1e30)
    ]
    assert all(np.allclose(units[0], other, rtol=1e-4) for other in units[1:])
    rows = units[0][0].mean(0)
    ratio = rows[20:76] / template[0, 20:76]
    assert np.ptp(ratio) < 0.1 * ratio.mean() and (units[0] > 0).all()


def test_tiles_are_multiples_and_cover_the_map():
    model = Prior()
    counts = np.random.default_rng(3).poisson(4.0, (1, 150, 100))
    separate_bands(counts, model=model)
    assert len(model.given) > 4
    for planes, kernel, frame in model.given:
        assert all(side % 32 == 0 and side <= 64 for side in planes.shape[2:])
        assert kernel.shape == (1, 1, 31, 31) and frame.shape == (1, 6)
    # What is known of the map is the same in all tiles.
    assert len({frame.tobytes() for *_, frame in model.given}) == 1


def test_what_is_beyond_the_map_is_not_seen():
    model = Prior()
    separate_bands(np.ones((1, 40, 40), int), model=model)
    ((planes, _, _),) = model.given
    assert planes.shape[2:] == (64, 64) and planes[0, 2, :40, :40].all()
    assert not planes[0, :, 40:].any() and not planes[0, :, :, 40:].any()


def test_steps_are_thinned_copies_of_each_other():
    """The photons of a step contain those of the step before, and their number is that of the noise rate."""
    model = Prior()
    model.tile = 512
    counts = np.random.default_rng(3).poisson(2.0, (1, 64, 64))
    separate_bands(counts, model=model, steps=5)
    maps = [planes[0, 0] for planes, _, _ in model.given]
    rates = [float(frame[0, 5]) for *_, frame in model.given]
    assert rates[0] == 1 and np.array_equal(maps[0], counts[0])
    for before, after, rate in zip(maps, maps[1:], rates[1:], strict=False):
        assert (after >= before).all() and np.array_equal(after, np.rint(after))
        expected = counts.sum() / rate
        assert abs(after.sum() - expected) < 5 * np.sqrt(expected)


def test_the_frame_says_what_is_known():
    counts, seen = np.full((1, 20, 20), 10), np.ones((1, 20, 20), np.float32)
    seen[:, :10] = 0
    inputs = counts_input(
        counts * seen,
        seen,
        3 * seen,
        gaussian_image(4.0)[None],
        given=(True, False, True),
        rate=0.5,
    )
    expected = [1.0, 2.0, 1.0, 0.0, 1.0, 0.5]
    assert inputs.frame[0].tolist() == pytest.approx(expected, abs=0.02)
    assert np.allclose(inputs.planes[0, 1, 10:], 10) and not inputs.planes[0, 1, :10].any()
