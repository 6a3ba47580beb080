"""Detection of point sources with a known PSF, after cosmic rays and bad pixels are taken out."""

import numpy as np

from bgrem.detection.peaks import local_maxima
from bgrem.detection.psf import matched_filter, noise_pixels, psf_fwhm
from bgrem.detection.sextractor import DEFAULT_MESH, clean_input, subtract_sky

__all__ = ["detect_matched_filter", "find_cosmic_rays", "matched_filter_snr"]


def find_cosmic_rays(sky, psf, *, mask=None, gain=None):
    """Cosmic rays by L.A.Cosmic (van Dokkum 2001), as astroscrappy does it for a known PSF.

    Parameters
    ----------
    sky : Subtracted
    psf : (n, n) array
    mask : (ny, nx) bool, optional
        Bad pixels.
    gain : float, optional
        Electrons per data unit, for the photon noise of bright sources; without it their noise is
        taken to be 5 % of their light, which keeps the cores of stars.

    Returns
    -------
    (ny, nx) bool
    """
    import astroscrappy
    from scipy.ndimage import median_filter

    light = np.maximum(median_filter(sky.residual, 5), 0.0)
    extra = light / gain if gain else (0.05 * light) ** 2
    fwhm = psf_fwhm(psf)
    rays, _ = astroscrappy.detect_cosmics(
        sky.residual,
        inmask=mask,
        invar=(sky.rms**2 + extra).astype(np.float32),
        satlevel=np.inf,
        sigclip=4.5,
        objlim=5.0,
        fsmode="convolve",
        psfmodel="gauss",
        psffwhm=fwhm,
        psfsize=int(2 * np.ceil(1.4 * fwhm) + 1),
    )
    return rays


def detect_matched_filter(
    data, psf, *, mask=None, cosmic_rays=True, gain=None, threshold=2.0, mesh=DEFAULT_MESH
):
    """Local maxima of the matched filter's S/N.

    Sky and noise from a mesh in two passes (objects masked in the second), cosmic rays found by
    astroscrappy, then the maximum-likelihood flux at each pixel over its error; bad pixels and cosmic
    rays have no weight.

    Parameters
    ----------
    data : (ny, nx) array
    psf : (n, n) array
        Unit sum: the true one, a Gaussian, or `bgrem.detection.psf.measure_psf`.
    mask : (ny, nx) bool, optional
        Bad pixels.
    cosmic_rays : bool
        Whether to look for cosmic rays.
    gain : float, optional
        Electrons per data unit; makes the photon noise of sources known.
    threshold : float
        Lowest S/N.
    mesh : int
        Side of the mesh's boxes in pixels.

    Returns
    -------
    structured array
        x, y, score; the score is the S/N.
    """
    plane = matched_filter_snr(data, psf, mask=mask, cosmic_rays=cosmic_rays, gain=gain, mesh=mesh)
    return local_maxima(plane, threshold=threshold)


def matched_filter_snr(data, psf, *, mask=None, cosmic_rays=True, gain=None, mesh=DEFAULT_MESH):
    """The plane that `detect_matched_filter` looks for maxima in.

    Parameters
    ----------
    data, psf, mask, cosmic_rays, gain, mesh
        See `detect_matched_filter`.

    Returns
    -------
    (ny, nx) float64
        S/N of a point source at each pixel, 0 where it cannot be known.
    """
    sky = subtract_sky(data, mask=mask, mesh=mesh, passes=2)
    _, bad = clean_input(data, mask)
    if cosmic_rays:
        bad = bad | find_cosmic_rays(sky, psf, mask=bad, gain=gain)
    weight = np.where(bad, 0.0, 1.0 / np.square(sky.rms, dtype=np.float64))
    flux, error = matched_filter(sky.residual, weight, psf)
    # With less than half of the information left, the peak itself is hidden.
    full = sky.rms * noise_pixels(psf) ** 0.5
    return np.where(error < full * 2.0**0.5, flux / error, 0.0)
