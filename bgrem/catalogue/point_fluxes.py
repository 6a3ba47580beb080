"""Fluxes and places of point sources by least squares, all of a strip together."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg
from scipy.spatial import cKDTree

from bgrem.catalogue.point_spread import FramePSF

__all__ = ["PointFits", "fit_point_sources", "without_points"]

PLACE_ROUNDS = 3  # of moving the places
LONGEST_STEP = 0.3  # px, in a round
FARTHEST = 0.5  # FWHM: of a place from where it began
LEAST_MOVED_SNR = 10.0  # of a source whose place is moved
LEAST_GOOD_WEIGHT = 0.3  # of the weight of a PSF that must lie on good pixels
PIXELS_AT_ONCE = 1 << 20  # of stamps


@dataclass(frozen=True, eq=False)
class PointFits:
    """What a fit of the PSF gives for each source, (n,) float64; NaN where too few of its pixels are good.

    Attributes
    ----------
    x, y : ndarray
        Places in pixels.
    flux : ndarray
        Of the whole PSF, in the unit of the image.
    error : ndarray
        Standard deviation of the flux in independent noise, with the photons of the source.
    place_error : ndarray
        Of each coordinate, as ``error``.
    spread, spread_error : ndarray
        SPREAD_MODEL: how much better a small disc fits than a star; 0 for stars, more for galaxies, less for
        what is sharper (Desai et al. 2012, ApJ 757, 83; Bouy et al. 2013, A&A 554, A101).
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    place_error: np.ndarray
    spread: np.ndarray
    spread_error: np.ndarray

    def in_noise(self, factor):
        """The fits with all errors widened by a factor, that of correlated noise."""
        names = ("error", "place_error", "spread_error")
        return replace(self, **{name: factor * getattr(self, name) for name in names})


def fit_point_sources(image, variance, good, x, y, psf: FramePSF, *, gain=np.inf):
    r"""Fit the PSF to all sources of an image together.

    The pixels of a flux have equal weights: it is then right, too, where the PSF is not. The fluxes are the solution of the normal equations :math:`\sum_j O_{ij} F_j = \sum P_i d`, in which
    :math:`O_{ij}` is the overlap of the PSFs of two sources. The places are moved by Gauss-Newton steps on what
    the other sources leave, with the inverse variance of each pixel as its weight.

    Parameters
    ----------
    image : (ny, nx) array
        Sky-subtracted.
    variance : (ny, nx) array
        Of the noise of each pixel.
    good : (ny, nx) bool
    x, y : (n,) array
        Places of all sources, in pixels.
    psf : FramePSF
    gain : float
        Electrons per unit of the image, for the photon noise of the sources.

    Returns
    -------
    PointFits
    """
    fit = _Fit(image, variance, good, psf, gain)
    place = np.column_stack([y, x]).astype(np.float64)
    began = place.copy()
    for _ in range(PLACE_ROUNDS):
        sums = fit.sums(place)
        flux = fit.fluxes(place, sums)
        step = fit.steps(place, flux)
        snr = flux * np.sqrt(sums["norm"]) / np.maximum(sums["noise"], 1e-30)
        step[~(snr > LEAST_MOVED_SNR)] = 0
        step = np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        place = began + np.clip(place + step - began, -FARTHEST * psf.fwhm, FARTHEST * psf.fwhm)
    sums = fit.sums(place)
    flux = fit.fluxes(place, sums)
    return fit.result(place, flux, sums)


def without_points(image, bad, psf: FramePSF, fits: PointFits, points):
    """An image without some of the sources that were fitted, bad pixels 0.

    Parameters
    ----------
    image : (ny, nx) float32 array
    bad : (ny, nx) bool
    psf : FramePSF
    fits : PointFits
    points : (n,) bool
        The sources that are taken off.

    Returns
    -------
    (ny, nx) float32
    """
    fit = _Fit(image, np.zeros_like(image), ~bad, psf)
    points = points & np.isfinite(fits.flux)
    left = fit.left(np.column_stack([fits.y, fits.x])[points], fits.flux[points])
    inside = slice(fit.pad, -fit.pad)
    return np.ascontiguousarray(left[inside, inside], np.float32)


class _Fit:
    """An image whose sources are fitted."""

    def __init__(self, image, variance, good, psf, gain=np.inf):
        self._psf, self._half, self._gain = psf, psf.half, gain
        pad = self._half + 1
        self._good = np.pad(good, pad)
        self._image = np.pad(np.where(good, image, 0).astype(np.float32), pad)
        self._variance = np.pad(np.where(good, variance, 0).astype(np.float32), pad)
        self.pad, self._size = pad, 2 * self._half + 1

    def sums(self, place):
        """Sums over the stamp of each source that do not depend on its neighbours, by name."""
        found = {name: np.empty(len(place)) for name in ("light", "norm", "noise", "seen")}
        for part, stamps, windows in self._stamps(place, self._psf.stamps):
            good, image, variance = windows
            weighted = stamps * good
            norm = np.einsum("nij,nij->n", weighted, stamps)
            found["light"][part] = np.einsum("nij,nij->n", stamps, image)
            found["norm"][part] = norm
            spread = np.einsum("nij,nij,nij->n", stamps, stamps, variance)
            found["noise"][part] = np.sqrt(spread / np.maximum(norm, 1e-30))
            found["seen"][part] = norm / np.einsum("nij,nij->n", stamps, stamps)
        return found

    def fluxes(self, place, sums):
        """Fluxes of all sources, each with its neighbours' light taken into account."""
        seen = sums["seen"] > LEAST_GOOD_WEIGHT
        root = np.sqrt(np.where(seen, sums["norm"], 1.0))
        light = np.where(seen, sums["light"], 0.0) / root
        pairs = cKDTree(place).query_pairs(2 * self._half, output_type="ndarray")
        pairs = pairs[seen[pairs].all(axis=1)] if len(pairs) else pairs
        if not len(pairs):
            return light / root
        one, other = pairs.T
        overlap = self._overlap(place[one] - place[other]) / (root[one] * root[other])
        places = np.concatenate([one, other]), np.concatenate([other, one])
        matrix = sparse.coo_matrix((np.tile(overlap, 2), places), shape=(len(place),) * 2)
        solved, _ = cg(sparse.eye(len(place)) + matrix.tocsr(), light, rtol=1e-6, maxiter=200)
        return solved / root

    def steps(self, place, flux):
        """Gauss-Newton steps of the places, (n, 2) in the order y, x, from what all sources leave."""
        left = self.left(place, flux)
        steps = np.zeros((len(place), 2))
        for part, stars, (good, image, variance) in self._stamps(place, self._psf.stamps, left):
            weight = self._weight(stars, flux[part], good, variance)
            for axis in (0, 1):
                slopes = self._table_at(self._psf.slopes[axis], place[part])
                curvature = np.einsum("nij,nij,nij->n", slopes, slopes, weight)
                with np.errstate(divide="ignore", invalid="ignore"):
                    light = np.einsum("nij,nij,nij->n", slopes, image, weight)
                    step = light / (curvature * flux[part])
                steps[part, axis] = np.where(np.isfinite(step), step, 0)
        # The stamps are those of the tabulated places.
        return steps + self._psf.phase(place)[2] - place

    def _weight(self, stars, flux, good, variance):
        """Inverse variance of the pixels of stamps, with the photons of each source."""
        photons = np.maximum(flux, 0)[:, None, None] * np.maximum(stars, 0) / self._gain
        with np.errstate(divide="ignore"):
            return np.where(good & (variance > 0), 1 / (variance + photons), 0)

    def result(self, place, flux, sums):
        """The fits of all sources."""
        norm, seen = np.maximum(sums["norm"], 1e-30), sums["seen"] > LEAST_GOOD_WEIGHT
        error, place_error, spread, spread_error = np.empty((4, len(place)))
        left = self.left(place, flux)
        for part, star, (good, rest, variance) in self._stamps(place, self._psf.stamps, left):
            disc, slope = (
                self._table_at(table, place[part])
                for table in (self._psf.spread_stamps, self._psf.slopes[1])
            )
            weight = self._weight(star, flux[part], good, variance)
            noise = np.where(weight > 0, 1 / np.maximum(weight, 1e-30), 0)
            error[part] = np.sqrt(np.einsum("nij,nij,nij->n", star, star, noise)) / norm[part]
            image = (rest + flux[part, None, None] * star) * good
            light = [np.einsum("nij,nij->n", stamp, image) for stamp in (disc, star)]
            own = [np.einsum("nij,nij,nij->n", stamp, star, good) for stamp in (disc, star)]
            with np.errstate(divide="ignore", invalid="ignore"):
                spread[part] = light[0] / light[1] - own[0] / own[1]
                # Of the first order in the noise of the pixels.
                change = disc / light[1][:, None, None]
                change = change - star * (light[0] / light[1] ** 2)[:, None, None]
                spread_error[part] = np.sqrt(np.einsum("nij,nij,nij->n", change, change, noise))
                curvature = np.einsum("nij,nij,nij->n", slope, slope, weight)
                place_error[part] = 1 / (np.sqrt(curvature) * np.abs(flux[part]))
        y, x = place.T
        values = (flux, error, place_error, spread, spread_error)
        return PointFits(x.copy(), y.copy(), *(np.where(seen, value, np.nan) for value in values))

    def left(self, place, flux):
        """The image without the sources."""
        left = self._image.copy()
        flat = left.ravel()
        offsets = np.add.outer(np.arange(self._size) * left.shape[1], np.arange(self._size))
        for part, stamps, _ in self._stamps(place, self._psf.stamps):
            corner = self._corners(place[part])
            start = corner[:, 0] * left.shape[1] + corner[:, 1]
            np.subtract.at(flat, start[:, None, None] + offsets, stamps * flux[part, None, None])
        return np.where(self._good, left, 0)

    def _overlap(self, distance):
        """Overlap of the stamps of sources at a distance, (n,)."""
        table = self._psf.overlap
        return ndimage.map_coordinates(
            table, distance.T + table.shape[0] // 2, order=3, mode="constant"
        )

    def _corners(self, place):
        """Rows and columns, in the padded image, of the first pixel of each stamp."""
        pixel, _, _ = self._psf.phase(place)
        limit = np.array(self._image.shape) - self._size
        return np.clip(pixel - self._half + self.pad, 0, limit)

    def _table_at(self, table, place):
        """Stamps of a table at some places."""
        _, number, _ = self._psf.phase(place)
        return table[number[:, 0], number[:, 1]]

    def _stamps(self, place, table, image=None):
        """Stamps of a table, and the same pixels of good, image and variance, some sources at a time."""
        planes = (self._good, self._image if image is None else image, self._variance)
        windows = [sliding_window_view(plane, (self._size,) * 2) for plane in planes]
        count = max(1, PIXELS_AT_ONCE // self._size**2)
        for start in range(0, len(place), count):
            part = slice(start, start + count)
            row, column = self._corners(place[part]).T
            yield part, self._table_at(table, place[part]), [w[row, column] for w in windows]
