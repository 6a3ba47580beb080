"""Isolated stars on a flat sky, and what the matched filter finds of them."""

import pytest
from skies import FWHM, isolated_stars

from bgrem.detection.point_sources import detect_matched_filter
from bgrem.detection.psf import gaussian_psf
from bgrem.evaluate.froc import froc


@pytest.fixture(scope="session")
def control():
    return [isolated_stars(seed) for seed in range(2)]


@pytest.fixture(scope="session")
def by_matched_filter(control):
    psf = gaussian_psf(FWHM)
    return froc(
        [detect_matched_filter(data, psf, cosmic_rays=False) for data, _, _ in control],
        [truth for _, _, truth in control],
    )
