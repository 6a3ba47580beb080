"""Point-spread functions: analytic, measured on a frame, and the matched filter that they make."""

import numpy as np
import sep

from bgrem.arrays.statistics import half_sample_mode

__all__ = [
    "GAUSSIAN_FWHM", "centred_stamp", "gaussian_psf", "matched_filter", "measure_psf", "noise_pixels", "psf_fwhm",
    "sharper_than_stars",
]  # fmt: skip

#: FWHM of a Gaussian in units of its standard deviation.
GAUSSIAN_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
SHARP_HEIGHT, SHARP_SIGMA = 4.5, 3.0  # noise, standard deviations: see `sharper_than_stars`


def gaussian_psf(fwhm, *, shift=(0.0, 0.0)):
    """Gaussian PSF of unit sum, integrated over pixels.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum in pixels.
    shift : tuple of float
        (dy, dx) of the centre from the middle pixel.

    Returns
    -------
    (n, n) float64
        n odd, four FWHM wide.
    """
    fine = 11
    radius = max(2, int(np.ceil(2.0 * fwhm)))
    # Mid-points of 11 slices of each pixel, summed: the integral to a part in 1e4 at FWHM 1.2.
    offset = (np.arange((2 * radius + 1) * fine) + 0.5) / fine - 0.5 - radius
    sigma = fwhm / GAUSSIAN_FWHM
    across = [
        np.exp(-0.5 * ((offset - d) / sigma) ** 2).reshape(-1, fine).sum(axis=1) for d in shift
    ]
    psf = np.outer(*across)
    return psf / psf.sum()


def noise_pixels(psf):
    """Number of pixels whose noise a matched filter sums: 1 / sum of the squared PSF.

    Parameters
    ----------
    psf : (n, n) array
        Of any sum.

    Returns
    -------
    float
    """
    return float(psf.sum() ** 2 / np.square(psf).sum())


def psf_fwhm(psf):
    """FWHM from the area above half the maximum of the PSF, sampled five times finer.

    Parameters
    ----------
    psf : (n, n) array

    Returns
    -------
    float
        In pixels.
    """
    from scipy.ndimage import zoom

    fine = zoom(psf, 5, order=3, grid_mode=True, mode="nearest")
    return float(2.0 * np.sqrt(np.count_nonzero(fine > 0.5 * fine.max()) / np.pi) / 5.0)


def matched_filter(data, weight, psf):
    """Flux and its error of a point source centred on each pixel.

    The maximum-likelihood amplitude of `psf` in independent noise: flux = sum(P w d) / sum(P^2 w),
    error = sum(P^2 w)^-1/2 (e.g. Zackay & Ofek 2017, eq. 6, for one image and a map of weights).

    Parameters
    ----------
    data : (ny, nx) array
        Sky-subtracted.
    weight : (ny, nx) array
        Inverse variance; 0 takes a pixel out.
    psf : (n, n) array
        Unit sum, n odd.

    Returns
    -------
    flux, error : (ny, nx) float64
        The error is inf where no pixel has weight.
    """
    from scipy.signal import oaconvolve

    seen = np.where(weight > 0, data, 0.0) * weight
    # Correlation is convolution with the turned PSF.
    turned = psf[::-1, ::-1]
    amount = oaconvolve(seen, turned, mode="same")
    information = oaconvolve(np.asarray(weight, np.float64), turned**2, mode="same")
    # Fourier rounding must not be taken for information where all of the PSF is masked.
    good = information > 1e-9 * information.max()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(good, amount / information, 0.0), np.where(good, information**-0.5, np.inf)


def sharper_than_stars(image, psf, *, model_error=0.0):
    """Local maxima that no star can be, because their neighbours have too little light.

    A star that is centred in a pixel has in the four pixels beside it q times the light of this pixel, where q
    is that of the PSF; stars that are centred elsewhere have more.

    Parameters
    ----------
    image : (ny, nx) array
        On zero background, in units of the noise, which is white.
    psf : (n, n) array
        n odd.
    model_error : float
        Relative error of q.

    Returns
    -------
    (ny, nx) bool
        Pixels above 4.5 whose neighbours have less than q times their light by 3 standard deviations.
    """
    from scipy import ndimage

    middle = psf.shape[0] // 2
    beside = ndimage.generate_binary_structure(2, 1).astype(np.float32)
    beside[1, 1] = 0
    around = psf[middle - 1 : middle + 2, middle - 1 : middle + 2]
    ratio = np.clip((around * beside).sum() / psf[middle, middle], 0.0, 4.0)
    lacking = ratio * image - ndimage.convolve(image, beside, mode="reflect")
    noise = np.sqrt(4 + ratio**2 + (model_error * ratio * image) ** 2)
    highest = image == ndimage.maximum_filter(image, 3)
    return highest & (image > SHARP_HEIGHT) & (lacking > SHARP_SIGMA * noise)


def measure_psf(data, rms, *, mask=None, saturation=None, radius=None, most=200, with_stars=False):
    """PSF of a frame: the median of its bright, isolated, unsaturated stars.

    Stars are distinguished from cosmic rays and galaxies by their size: the bright detections' half-light
    radii have a clump, the stars.  Each star is moved to a pixel centre by a cubic spline and brought
    to unit flux; the median leaves neighbours and cosmic rays out.

    Parameters
    ----------
    data : (ny, nx) array
        Sky-subtracted.
    rms : (ny, nx) array or float
        Noise of the sky.
    mask : (ny, nx) bool, optional
        True where a pixel is bad.
    saturation : float, optional
        Stars with a pixel above it are left out; by default 0.7 of the brightest good pixel.
    radius : int, optional
        Half-width of the PSF image; by default two FWHM: further out there is more noise
        than star.
    most : int
        Number of stars used, the brightest ones.
    with_stars : bool
        Whether these stars are returned, too.

    Returns
    -------
    psf : (n, n) float64
        Unit sum, n odd.
    stars : (m,) structured array, optional
        Places, fluxes and half-light radii: x, y, flux, radius.

    Raises
    ------
    ValueError
        If fewer than three stars are found, or the image is one blend of too many.
    """
    data = np.ascontiguousarray(data, dtype=np.float32)
    bad = np.zeros(data.shape, dtype=bool) if mask is None else np.ascontiguousarray(mask)
    noise = np.broadcast_to(np.asarray(rms, dtype=np.float32), data.shape).copy()
    sep.set_extract_pixstack(max(sep.get_extract_pixstack(), data.size))
    try:
        objects = sep.extract(data, 5.0, err=noise, mask=bad, minarea=5)
    except Exception as error:  # noqa: BLE001 - sep has no class of its own for blends of too many parts
        raise ValueError(f"the PSF cannot be measured: {error}") from None
    if saturation is None:
        saturation = 0.7 * data[~bad].max()
    stars = _isolated_stars(data, noise, bad, objects, saturation)
    if stars.size < 3:
        raise ValueError(f"{stars.size} stars are too few to measure the PSF: give its FWHM")
    stars = stars[np.argsort(-stars["flux"], kind="stable")][:most]
    fwhm = 2.0 * float(np.median(stars["radius"]))
    half = int(np.ceil(2.0 * fwhm)) if radius is None else radius
    stamps = np.stack([centred_stamp(data, star["x"], star["y"], half) for star in stars])
    aperture = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    edge = (aperture > half - 1) & (aperture <= half + 1)
    stamps -= np.median(stamps[:, edge], axis=1)[:, None, None]
    inner = aperture <= max(1.5, fwhm)
    flux = stamps[:, inner].sum(axis=1)
    psf = np.median(stamps[flux > 0] / flux[flux > 0, None, None], axis=0)
    # The far wings of a median of noisy stamps are noise.
    psf = np.where(aperture <= half, np.maximum(psf, 0.0), 0.0)
    psf /= psf.sum()
    return (psf, stars) if with_stars else psf


def _isolated_stars(data, noise, bad, objects, saturation):
    """Detections (fields x, y, flux, radius) in the clump of half-light radii of bright objects."""
    x, y = objects["x"], objects["y"]
    ny, nx = data.shape
    # Half-light radius within six pixels per pixel of second moment, centre by windowed moments.
    extent = np.clip(6.0 * objects["a"], 3.0, 30.0)
    radius, _ = sep.flux_radius(data, x, y, extent, 0.5, mask=bad, subpix=5)
    x, y, _ = sep.winpos(data, x, y, np.maximum(radius, 0.5) * 2.0 / GAUSSIAN_FWHM, mask=bad)
    flux, error, _ = sep.sum_circle(data, x, y, 2.0 * np.maximum(radius, 0.5), err=noise, mask=bad)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = flux / error
    fit = (objects["flag"] == 0) & (objects["peak"] < saturation) & np.isfinite(radius)
    fit &= (snr > 30) & (radius > 0.4) & (objects["b"] > 0.6 * objects["a"])
    if np.count_nonzero(fit) < 3:
        return np.empty(0, dtype=[("x", float), ("y", float), ("flux", float), ("radius", float)])
    # The clump.
    size = float(np.exp(half_sample_mode(np.log(radius[fit]))))
    fit &= np.abs(radius - size) < 0.15 * size
    margin = 8.0 * size
    fit &= (x > margin) & (y > margin) & (x < nx - 1 - margin) & (y < ny - 1 - margin)
    clear = np.array([_is_clear(i, x, y, flux, bad, 5.0 * size) for i in np.flatnonzero(fit)], bool)
    chosen = np.flatnonzero(fit)[clear] if clear.size else np.flatnonzero(fit)
    table = np.empty(
        chosen.size, dtype=[("x", float), ("y", float), ("flux", float), ("radius", float)]
    )
    for name, column in (("x", x), ("y", y), ("flux", flux), ("radius", radius)):
        table[name] = column[chosen]
    return table


def _is_clear(i, x, y, flux, bad, reach):
    """Whether no detection of a fifth of its flux and no bad pixel lies near detection `i`."""
    near = np.hypot(x - x[i], y - y[i]) < reach
    near[i] = False
    if (flux[near] > 0.2 * flux[i]).any():
        return False
    row, column = round(float(y[i])), round(float(x[i]))
    box = round(reach / 2.5)
    return not bad[max(row - box, 0) : row + box + 1, max(column - box, 0) : column + box + 1].any()


def centred_stamp(data, x, y, half):
    """Square of 2 half + 1 pixels around (x, y), moved there by a cubic spline."""
    from scipy.ndimage import shift

    row, column = round(float(y)), round(float(x))
    pad = 4
    low, size = half + pad, 2 * (half + pad) + 1
    window = np.take(
        np.take(data, np.arange(row - low, row - low + size), axis=0, mode="clip"),
        np.arange(column - low, column - low + size), axis=1, mode="clip",
    )  # fmt: skip
    moved = shift(window.astype(np.float64), (row - y, column - x), order=3, mode="nearest")
    return moved[pad:-pad, pad:-pad]
