"""What a user gives with a counts map: exposure, template and PSF, brought to its pixels."""

import os

import numpy as np

from bgrem.counts.tabulated_psf import (
    band_energies,
    celestial_wcs,
    energy_edges,
    pixel_scale,
    table_of_psf,
)
from bgrem.io.maps import open_map
from bgrem.io.reading import FitsError, FitsImage, as_planes
from bgrem.storage.names import home_path, named_hdu

__all__ = ["counts_maps", "in_memory"]

SAME_SCALE = 0.01  # relative: pixel scales that differ by less are the same
SAME_PIXEL = 0.25  # px: maps of one shape whose corners differ by less are on the same pixels
PARTS_OF_PIXEL = 5  # along each axis, at which the image of a PSF is interpolated
FARTHEST_PEAK = 1.5  # px: of the peak of a PSF from the middle of its image


def counts_maps(image: FitsImage, *, exposure=None, template=None, psf=None) -> dict:
    """Read exposure, template and PSF of a counts map.

    Parameters
    ----------
    image : FitsImage
    exposure, template : str, path or array, optional
        FILE, FILE[HDU] or an HDU of the file of the image. On other pixels of the sky they are interpolated by their
        WCS, at other energies linearly in the logarithm of the energy; for a map without energies they are summed.
    psf : float, str, path or array, optional
        FWHM of a Gaussian in pixels, an image of the PSF (of its own pixel scale, by its WCS), one image per band,
        or a table of Fermi's ``gtpsf``.

    Returns
    -------
    dict
        Keywords of `bgrem.counts.counts_path.separate_counts`, and ``notes``, sentences on what was done.

    Raises
    ------
    FitsError
        If a map cannot be read, or does not cover the image.
    """
    found, notes = {}, []
    for name, source in (("exposure", exposure), ("template", template)):
        if source is not None:
            values, header, label = _read(source, image, name)
            found[name] = _on_pixels(values, header, label, image, name, notes)
    if psf is not None:
        found["psf"] = _psf(psf, image, notes)
    return found | {"notes": tuple(notes)}


def _read(source, image, name):
    """Planes (n, ny, nx), the header, and the origin of a map."""
    if not isinstance(source, str | os.PathLike):
        return as_planes(np.asarray(source)), None, f"the {name}"
    other = open_map(source, image, name)
    return in_memory(as_planes(other.data)), other, other.label


def in_memory(planes) -> np.ndarray:
    """Planes that may lie in a file, as an array."""
    return np.stack([np.asarray(plane[: plane.shape[0]]) for plane in planes])


def _on_pixels(values, other, label, image, name, notes):
    """A map on the pixels and in the bands of the image."""
    bands = as_planes(image.data)
    if values.shape[1:] != bands.shape[1:] or _elsewhere(image, other):
        values, covered = _reprojected(values, other, label, image, name)
        notes.append(f"the {name} of {label} was interpolated to the pixels of the image")
        if covered < 1 and name == "template":
            notes.append(
                f"the template covers {covered:.0%} of the image: beyond, its edge is continued"
            )
    theirs = None if other is None else band_energies(other)
    if len(values) == 1 or (len(values) == len(bands) and len(bands) > 1):
        return values
    if len(bands) == 1:
        edges = energy_edges(image)
        unknown = "" if edges else ", over all energies: those of the image are not known"
        notes.append(f"the {len(values)} planes of the {name} were summed{unknown}")
        weights = _weights_of_energies(theirs, edges, len(values), name)
        return np.tensordot(weights, np.nan_to_num(values), 1)[None]
    own = band_energies(image)
    if own is None or theirs is None:
        raise FitsError(
            f"{label} is the {name} of {len(values)} energies, but the image in {image.label} has {len(bands)}, "
            "and the energies of one of them are not known"
        )
    notes.append(
        f"the {len(values)} energies of the {name} were interpolated to those of the image"
    )
    return _at_energies(values, np.log(theirs), np.log(own))


def _weights_of_energies(energies, edges, number, name):
    """Weights of the planes of a map for one band: of photons in equal steps of the logarithm of the energy.

    A template is an intensity per energy, which the energy brings to one per logarithm; an exposure is averaged over
    the photons of an E^-2 spectrum. Only energies within the edges of the band count, if these are known.
    """
    if energies is None:
        return np.full(number, 1 / number)
    weights = energies ** (1.0 if name == "template" else -1.0)
    if edges is not None:
        inside = (energies >= edges[0].min()) & (energies <= edges[1].max())
        weights = np.where(inside, weights, 0) if inside.any() else weights
    return weights / weights.sum()


def _at_energies(values, known, wanted):
    """Planes interpolated linearly in the logarithm of the energy; beyond, those of the ends."""
    place = np.interp(wanted, known, np.arange(len(known)))
    lower = np.minimum(place.astype(int), len(known) - 2) if len(known) > 1 else place.astype(int)
    part = (place - lower)[:, None, None]
    upper = np.minimum(lower + 1, len(known) - 1)
    return values[lower] * (1 - part) + values[upper] * part


def _elsewhere(image, other):
    """Whether a map of the same shape lies on other pixels of the sky."""
    pair = [celestial_wcs(one) for one in (image, other) if one is not None]
    if len(pair) < 2 or None in pair:
        return False
    ny, nx = image.data.shape[-2:]
    x, y = np.array([0, nx - 1, 0, nx - 1]), np.array([0, 0, ny - 1, ny - 1])
    there = pair[1].world_to_pixel(pair[0].pixel_to_world(x, y))
    # A pixel that the other map cannot show is elsewhere.
    return not all(np.abs(a - b).max() < SAME_PIXEL for a, b in zip(there, (x, y), strict=True))


def _reprojected(values, other, label, image, name):
    """Planes on the pixels of the image, interpolated bilinearly, and the part of these that they cover.

    Beyond, a template is continued by its edge; an exposure is NaN.
    """
    pair = [None if one is None else celestial_wcs(one) for one in (image, other)]
    if None in pair:
        raise FitsError(
            f"{label} is the {name} of {values.shape[2]} x {values.shape[1]} pixels, but the image in {image.label} "
            f"has {image.data.shape[-1]} x {image.data.shape[-2]}, and without a WCS of both it cannot be "
            "interpolated"
        )
    ny, nx = image.data.shape[-2:]
    y, x = np.mgrid[:ny, :nx]
    sky = pair[0].pixel_to_world(x, y)
    u, v = pair[1].world_to_pixel(sky)
    found, inside = _bilinear(values, u, v)
    if not inside.any():
        raise FitsError(f"{label} does not cover the image in {image.label}")
    if name == "exposure":
        found = np.where(inside, found, np.nan)
    return found, float(inside.mean())


def _bilinear(planes, x, y):
    """Values of planes at places in pixels, continued by their edges, and which places are on them."""
    ny, nx = planes.shape[1:]
    inside = (x >= -0.5) & (y >= -0.5) & (x <= nx - 0.5) & (y <= ny - 0.5)
    x, y = np.clip(np.nan_to_num(x), 0, nx - 1), np.clip(np.nan_to_num(y), 0, ny - 1)
    i, j = np.minimum(y.astype(int), max(ny - 2, 0)), np.minimum(x.astype(int), max(nx - 2, 0))
    fy, fx = y - i, x - j
    down, right = min(1, ny - 1), min(1, nx - 1)
    upper = planes[:, i, j] * (1 - fx) + planes[:, i, j + right] * fx
    lower = planes[:, i + down, j] * (1 - fx) + planes[:, i + down, j + right] * fx
    return upper * (1 - fy) + lower * fy, inside


def _psf(source, image, notes):
    """The FWHM, or images of the PSF (n, side, side)."""
    number = _number(source)
    if number is not None:
        if not (np.isfinite(number) and number > 0):
            raise FitsError(f"{image.label}: the FWHM of the PSF must be positive, not {source}")
        return number
    if isinstance(source, str | os.PathLike):
        path, _ = named_hdu(home_path(source))
        if path.is_file() and (table := table_of_psf(path)) is not None:
            notes.append(f"the PSF is from the table of {path}")
            return table.images(image)
    values, other, label = _read(source, image, "PSF")
    bands = len(as_planes(image.data))
    if len(values) not in (1, bands):
        raise FitsError(
            f"{label} has {len(values)} images of the PSF, the image in {image.label} {bands} planes"
        )
    scale = 1.0 if other is None else _relative_scale(other, image)
    return np.stack([_centred_psf(plane, scale, label) for plane in values])


def _number(source):
    if isinstance(source, str):
        try:
            return float(source)
        except ValueError:
            return None
    return float(source) if np.ndim(source) == 0 and not isinstance(source, os.PathLike) else None


def _relative_scale(other, image):
    """Pixels of the image per pixel of the PSF's image."""
    own, theirs = pixel_scale(image), pixel_scale(other)
    if not own or not theirs or abs(theirs / own - 1) < SAME_SCALE:
        return 1.0
    return theirs / own


def _centred_psf(plane, scale, label):
    """The largest odd square around the peak of a PSF, on the pixels of the map."""
    plane = np.nan_to_num(np.asarray(plane, np.float64))
    peak = np.array(np.unravel_index(plane.argmax(), plane.shape))
    middle = (np.array(plane.shape) - 1) / 2
    if plane.max() <= 0 or (plane < -1e-3 * plane.max()).any():
        raise FitsError(f"{label} is no PSF: it must be positive")
    if np.abs(peak - middle).max() > FARTHEST_PEAK:
        raise FitsError(
            f"{label} is no PSF: its peak, x={peak[1]}, y={peak[0]}, is not in the middle of the image"
        )
    half = int(min(*peak, *(np.array(plane.shape) - 1 - peak)))
    cut = plane[peak[0] - half : peak[0] + half + 1, peak[1] - half : peak[1] + half + 1]
    cut = np.maximum(cut, 0)
    if scale != 1.0:
        cut = _rescaled(cut, half, scale)
    return cut / cut.sum()


def _rescaled(psf, half, scale):
    """A PSF on pixels of which one of its own has ``scale``: the mean of places within each pixel."""
    reach = max(int(half * scale), 1)
    places = np.arange(PARTS_OF_PIXEL * (2 * reach + 1))
    offsets = (places + 0.5) / PARTS_OF_PIXEL - 0.5 - reach
    x, y = np.meshgrid(offsets / scale + half, offsets / scale + half)
    values, inside = _bilinear(psf[None], x, y)
    side = 2 * reach + 1
    fine = np.where(inside, values[0], 0).reshape(side, PARTS_OF_PIXEL, side, PARTS_OF_PIXEL)
    return fine.mean((1, 3))
