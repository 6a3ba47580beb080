"""Populations of gamma-ray and X-ray sources: distributions of flux, and expected significances."""

from dataclasses import dataclass

import numpy as np

__all__ = [
    "POPULATIONS", "BrokenPowerLaw", "expected_snr", "expected_snr_of_light", "flux_of_snr",
]  # fmt: skip


@dataclass(frozen=True)
class BrokenPowerLaw:
    """dN/dS, a power law with another slope above a break.

    Attributes
    ----------
    faint, bright : float
        Slopes below and above the break: dN/dS is proportional to S^-slope.
    """

    faint: float
    bright: float

    def above(self, flux, lowest, break_flux, highest):
        """Part of the sources of ``lowest`` to ``highest`` flux that are above a flux.

        Parameters
        ----------
        flux : float or ndarray
        lowest, break_flux, highest : float

        Returns
        -------
        ndarray
        """
        edges = np.array([lowest, min(max(break_flux, lowest), highest), highest])
        whole = self._integral(edges[0], edges, break_flux)[-1]
        return 1 - self._integral(edges[0], np.asarray(flux, np.float64), break_flux) / whole

    def draw(self, rng, number, lowest, break_flux, highest):
        """Fluxes of a number of sources, float64.

        Parameters
        ----------
        rng : `~numpy.random.Generator`
        number : int
        lowest, break_flux, highest : float
        """
        grid = np.geomspace(lowest, highest, 400)
        whole = self._integral(lowest, grid, break_flux)
        return np.interp(rng.random(number) * whole[-1], whole, grid)

    def _integral(self, start, flux, break_flux):
        """Number of sources from a flux to others, not normalised."""
        low = _power(start, np.minimum(flux, break_flux), self.faint, break_flux)
        high = _power(max(break_flux, start), np.maximum(flux, break_flux), self.bright, break_flux)
        return np.where(flux <= break_flux, low, np.where(start < break_flux, low, 0) + high)


def _power(start, stop, slope, unit):
    """Integral of (S / unit)^-slope from start to stop."""
    a, b = start / unit, np.asarray(stop) / unit
    if abs(slope - 1) < 1e-9:
        return np.log(b / a)
    return (b ** (1 - slope) - a ** (1 - slope)) / (1 - slope)


#: Slopes below and above the break, by the class of the sources.
#: blazars: above 10 GeV, 1.07 and 2.09 (Di Mauro et al. 2018, ApJ 856, 106).
#: hard blazars: above 50 GeV, 1.60 to 1.75 and 2.49 (Ackermann et al. 2016, PRL 116, 151105).
#: X-ray sources: at 0.5 to 2 keV, 1.58 and 2.50 (Georgakakis et al. 2008, MNRAS 388, 1205).
#: pulsars: sources of one luminosity at random places in a thin disc around us have N(>S) ~ S^-1.
#: wind nebulae: above the break the slope of the brightest sources of the H.E.S.S. survey of the Galactic plane, whose
#: cumulative slope is 1.3 (A&A 612, A1, 2018); the slope below, where no survey is complete, is an assumption.
#: The break and the number of sources are fields of a scene.
POPULATIONS = {
    "blazars": BrokenPowerLaw(1.07, 2.09),
    "hard blazars": BrokenPowerLaw(1.60, 2.49),
    "X-ray sources": BrokenPowerLaw(1.58, 2.50),
    "pulsars": BrokenPowerLaw(2.0, 2.0),
    "wind nebulae": BrokenPowerLaw(1.3, 2.3),
}


def flux_of_snr(snr, background):
    """Counts of a source that has a S/N above the expected counts of the background in its area.

    In the Gaussian limit, S / sqrt(S + B) = S/N.

    Parameters
    ----------
    snr, background : float or ndarray

    Returns
    -------
    ndarray
    """
    snr = np.asarray(snr, np.float64)
    return 0.5 * (snr * snr + snr * np.sqrt(snr * snr + 4 * background))


def expected_snr(flux, background, psf):
    """Square root of the expected test statistic of point sources.

    TS = 2 sum((s + b) ln(1 + s / b) - s) over the pixels, of the expected counts s of the source and b of the
    background (Cowan et al. 2011, Eur. Phys. J. C 71, 1554: the "Asimov" data set). The background is that of the
    source's pixel.

    Parameters
    ----------
    flux, background : ndarray, (n,)
        Expected counts of the sources, and of the background per pixel.
    psf : ndarray, (k, k)
        With sum 1.

    Returns
    -------
    ndarray, (n,) float64
    """
    background = np.maximum(np.asarray(background, np.float64), 1e-9)
    light = np.sort(np.asarray(psf, np.float64).ravel())[::-1][None]
    contrast = np.asarray(flux, np.float64) / background
    if not contrast.size:
        return np.zeros(0)
    grid = np.geomspace(max(contrast.min(), 1e-6), max(contrast.max(), 2e-6) * 1.001, 60)
    excess = grid[:, None] * light
    terms = ((1 + excess) * np.log1p(excess) - excess).sum(1)
    found = np.exp(np.interp(np.log(np.maximum(contrast, 1e-6)), np.log(grid), np.log(terms)))
    return np.sqrt(2 * background * found)


def expected_snr_of_light(light, background):
    """Square root of the expected test statistic of a source of a known image, as in `expected_snr`.

    Parameters
    ----------
    light, background : ndarray, of one shape
        Expected counts; pixels without background are left out.

    Returns
    -------
    float
    """
    seen = np.asarray(background) > 0
    s, b = (np.asarray(image, np.float64)[seen] for image in (light, background))
    return float(np.sqrt(max(2 * ((s + b) * np.log1p(s / b) - s).sum(), 0.0)))
