"""The sky that a counts model learns from: scenes whose every field is random."""

import numpy as np

from bgrem.counts_training.poisson_scene import CountsScene
from bgrem.counts_training.populations import POPULATIONS

__all__ = ["COUNTS_PRESETS", "random_counts_scene"]

#: Scenes by name: a patch of 10 degrees of the Fermi-LAT above 1 GeV, and a field of Chandra.
COUNTS_PRESETS = {
    "counts": CountsScene(),
    "fermi": CountsScene(shape=(100, 100), level=3.0, fwhm=4.0, density=6.0),
    "chandra": CountsScene(
        shape=(1024, 1024), level=0.03, fwhm=1.6, king_index=2.0, tail=0.1, off_axis=5.0, ellipticity=0.1,
        isotropic=0.3, instrumental=0.7, plane=0.0, cloud_contrast=0.1, chip_scatter=0.15, vignetting=0.3,
        gaps=2, density=2.0, population="X-ray sources", extended=0.02, largest_radius=60.0,
    ),
}  # fmt: skip


def random_counts_scene(rng, shape=(128, 128), bands=1):
    """A scene of the training.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
    shape : tuple of int
    bands : int

    Returns
    -------
    CountsScene
    """

    def some(chance, value, other=0.0):
        return value if rng.random() < chance else other

    def between(low, high):
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    isotropic, instrumental = rng.uniform(0, 1), some(0.4, rng.uniform(0, 1))
    total = max(1.0, isotropic + instrumental)
    return CountsScene(
        shape=tuple(shape), bands=bands,
        level=between(0.003, 300),
        band_level=rng.uniform(0.15, 0.8), band_width=rng.uniform(0.6, 1.0),
        band_index=rng.uniform(-0.3, 0.8),
        fwhm=between(1.0, 6.0), king_index=some(0.8, between(1.4, 8), 60.0),
        tail=some(0.6, rng.uniform(0, 0.4)), tail_width=rng.uniform(1.5, 4),
        ellipticity=some(0.3, rng.uniform(0, 0.4)), off_axis=some(0.25, between(0.2, 3)),
        isotropic=isotropic / total, instrumental=instrumental / total,
        plane=some(0.6, rng.uniform(0, 1)), plane_height=between(4, 200),
        plane_angle=rng.uniform(0, np.pi), plane_offset=rng.normal(0, 0.3 * min(shape)),
        cloud_slope=rng.uniform(2, 3.8), cloud_contrast=some(0.8, rng.uniform(0, 0.9)),
        chip_scatter=some(0.3, rng.uniform(0, 0.4)),
        exposure_tilt=some(0.7, rng.uniform(0, 0.8)), vignetting=some(0.4, rng.uniform(0, 1)),
        gaps=int(some(0.3, rng.integers(1, 4))), pointings=int(some(0.2, rng.integers(1, 7))),
        bad_columns=int(some(0.1, rng.integers(1, 6))),
        density=some(0.85, between(0.3, 60)), population=str(rng.choice(list(POPULATIONS))),
        break_snr=between(1, 15), brightest=between(20, 2000),
        extended=some(0.4, between(0.3, 4)), largest_radius=between(5, 60),
        template_blur=some(0.4, between(2, 25)), template_tilt=some(0.4, rng.uniform(-0.8, 0.8)),
        template_missing=some(0.3, rng.uniform(0, 1)),
    )  # fmt: skip
