"""The matched filter for stars: its noise, its signal, the local level."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bgrem.arrays.statistics import FWHM_PER_SIGMA
from bgrem.detection.frame import FRAME_NAMES, TYPICAL_FWHM
from bgrem.network.star_filter import (
    LEVEL_BLOCK,
    StarFilter,
    filter_stars,
    filtered_noise,
    local_level,
    matched_kernel,
)
from bgrem.simulate.detector import resampled


def sky(*shape):
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("fwhm", [1.5, TYPICAL_FWHM, 6.0])
def test_filtered_noise_is_known(fwhm):
    for settings in (
        {},
        {"correlation": 0.6},
        {"shift_x": 0.5, "shift_y": 0.3},
        {"correlation": -0.08},
    ):
        noise = np.random.default_rng(5).standard_normal((512, 512), dtype=np.float32)
        shift = settings.get("shift_y", 0.0), settings.get("shift_x", 0.0)
        noise = resampled(noise, settings.get("correlation", 0.0), 1.0, shift)
        across = (noise[:, 1:] * noise[:, :-1]).mean()
        down = (noise[1:] * noise[:-1]).mean()
        expected = filtered_noise(torch.tensor([fwhm]), torch.tensor([[across, down]]))
        filtered = filter_stars(
            torch.from_numpy(noise)[None, None], matched_kernel(torch.tensor([fwhm]))
        )
        assert filtered[..., 16:-16, 16:-16].std() == pytest.approx(expected.item(), rel=0.08)


@pytest.mark.parametrize("fwhm", [1.4, 3.0, 7.0])
def test_filter_gives_the_snr_of_a_star(fwhm):
    """Sources of a known S/N in noise of unit deviation (Irwin 1985)."""
    offsets = np.arange(-32, 32)
    profile = np.exp(-0.5 * (offsets / (fwhm / FWHM_PER_SIGMA)) ** 2)
    star = np.outer(profile, profile)
    star = 20 * star / np.sqrt((star**2).sum())
    x = torch.from_numpy(star.astype(np.float32))[None, None]
    filtered = filter_stars(x, matched_kernel(torch.tensor([fwhm])))
    assert filtered.max().item() == pytest.approx(20, rel=0.01)
    noise = filter_stars(sky(1, 1, 256, 256), matched_kernel(torch.tensor([fwhm])))[
        ..., 16:-16, 16:-16
    ]
    assert noise.std().item() == pytest.approx(1, rel=0.1)


def test_local_level_is_the_sky_below_stars():
    y, xx = np.mgrid[:256, :256].astype(np.float32)
    waves = 8.0 + 5.0 * np.sin(2 * np.pi * xx / 128)
    stars = np.zeros_like(waves)
    for row, column in ((40, 50), (128, 128), (200, 90)):
        stars += 300.0 * np.exp(-0.5 * ((y - row) ** 2 + (xx - column) ** 2) / 1.7**2)
    image = torch.from_numpy(waves + stars)[None, None] + sky(1, 1, 256, 256)
    level = local_level(image)[0, 0].numpy()
    truth = waves.reshape(64, LEVEL_BLOCK, 64, LEVEL_BLOCK).mean(axis=(1, 3))
    assert np.abs(level - truth)[8:-8, 8:-8].max() < 2.0
    assert abs((level - truth).mean()) < 0.5
    plain = local_level(100.0 + sky(1, 1, 256, 256))
    assert torch.abs(plain - 100.0).max() < 0.2


def test_snr_is_above_the_level_over_noise():
    x = sky(1, 1, 256, 256)
    frame = torch.zeros(1, len(FRAME_NAMES))
    snr = StarFilter(frame).snr(x)[..., 16:-16, 16:-16]
    assert snr.std().item() == pytest.approx(1, rel=0.1)
    raised = StarFilter(frame).snr(x + 50.0)[..., 16:-16, 16:-16]
    assert torch.abs(raised - snr).max() < 0.05
