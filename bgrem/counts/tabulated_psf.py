"""PSFs as tables of energy and angle, and the energies of bands."""

from dataclasses import dataclass

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_scales

from bgrem.io.header_facts import wcs_of
from bgrem.io.reading import FitsError, FitsImage, as_planes

__all__ = [
    "PsfTable",
    "band_energies",
    "celestial_wcs",
    "energy_edges",
    "pixel_scale",
    "table_of_psf",
]

FINE_PARTS = 5  # parts of a pixel along each axis
HALF_SIDES = (15, 30, 60, 124)  # px of an image of the PSF: the first that holds most of the light
ENOUGH_LIGHT = 0.98
SPECTRUM = -1.0  # power of the energy that weights a PSF: photons per logarithm of an E^-2 spectrum


def band_energies(image: FitsImage) -> np.ndarray | None:
    """Mean energies of the planes of an image in MeV, from its tables EBOUNDS or ENERGIES, or None.

    Parameters
    ----------
    image : FitsImage

    Returns
    -------
    ndarray, (k,) float64
    """
    edges = energy_edges(image)
    if edges is not None:
        return np.sqrt(edges[0] * edges[1])
    for unit in image.units:
        name = unit.name.upper()
        if "ENERG" in name or name.endswith("BANDS"):
            table = _table(image, unit)
            column = next(
                (n for n in ("ENERGY", "ENERGY_TRUE") if table is not None and n in table.names),
                None,
            )
            if column and len(table[column]) == len(as_planes(image.data)):
                return _in_mev(table, column)
    return None


def energy_edges(image: FitsImage):
    """Lower and upper energies of the planes of an image in MeV, from its table EBOUNDS, or None.

    Parameters
    ----------
    image : FitsImage

    Returns
    -------
    tuple of ndarray, (k,) float64
    """
    for unit in image.units:
        if unit.name.upper() == "EBOUNDS":
            table = _table(image, unit)
            if table is not None and {"E_MIN", "E_MAX"} <= set(table.names):
                edges = _in_mev(table, "E_MIN"), _in_mev(table, "E_MAX")
                if len(edges[0]) == len(as_planes(image.data)):
                    return edges
    return None


def _table(image, unit):
    with fits.open(image.path, memmap=False) as hdus:
        hdu = hdus[unit.index]
        return hdu.data if isinstance(hdu, fits.BinTableHDU) else None


def _in_mev(table, name):
    unit = table.columns[name].unit or "MeV"
    factor = units.Unit(unit).to("MeV")
    return np.maximum(np.asarray(table[name], np.float64) * factor, 1e-9)


@dataclass(frozen=True)
class PsfTable:
    """A PSF by energy and angle, as Fermi's ``gtpsf`` writes it.

    Attributes
    ----------
    energy : ndarray, (n,)
        MeV.
    theta : ndarray, (m,)
        Degrees from the source.
    psf : ndarray, (n, m)
        Light per solid angle, of any scale.
    path : str
    """

    energy: np.ndarray
    theta: np.ndarray
    psf: np.ndarray
    path: str

    def images(self, image: FitsImage) -> np.ndarray:
        """Images of the PSF on the pixels of a map, one for each of its bands, with sum 1.

        Parameters
        ----------
        image : FitsImage
            Its WCS gives the pixel scale, its table EBOUNDS the energies of its bands. Without one all energies of the
            table are used, weighted as the photons of an E^-2 spectrum.

        Returns
        -------
        ndarray, (k, side, side)
        """
        scale = pixel_scale(image)
        if not scale:
            raise FitsError(
                f"{image.label} has no WCS: the pixel scale is needed for the PSF of {self.path}"
            )
        edges, bands = energy_edges(image), len(as_planes(image.data))
        if edges is None and bands > 1:
            raise FitsError(
                f"{image.label} has no table EBOUNDS: the energies of its planes are needed for the PSF of {self.path}"
            )
        pairs = [(0.0, np.inf)] if edges is None else zip(*edges, strict=True)
        profiles = [self._profile(low, high) for low, high in pairs]
        half = max(self._half_side(profile, scale) for profile in profiles)
        return np.stack([self._image(profile, scale, half) for profile in profiles])

    def _half_side(self, profile, scale):
        """The least of the sides whose circle has most of the light."""
        light = profile * self.theta * np.gradient(self.theta)
        within = np.interp(np.array(HALF_SIDES) * scale, self.theta, np.cumsum(light) / light.sum())
        return HALF_SIDES[min(np.count_nonzero(within < ENOUGH_LIGHT), len(HALF_SIDES) - 1)]

    def _profile(self, low, high):
        weights = np.where((self.energy >= low) & (self.energy <= high), self.energy**SPECTRUM, 0.0)
        if not weights.any():
            middle = np.sqrt(low * high)
            weights[np.abs(np.log(self.energy / middle)).argmin()] = 1.0
        return weights @ self.psf

    def _image(self, profile, scale, half):
        side = 2 * half + 1
        fine = ((np.arange(side * FINE_PARTS) + 0.5) / FINE_PARTS - side / 2) * scale
        radius = np.hypot(fine[:, None], fine[None])
        light = np.interp(radius, self.theta, profile, right=0.0)
        image = light.reshape(side, FINE_PARTS, side, FINE_PARTS).sum((1, 3))
        return image / image.sum()


def table_of_psf(path) -> PsfTable | None:
    """The table of the PSF in a FITS file, or None where it holds none.

    Parameters
    ----------
    path : path

    Returns
    -------
    PsfTable or None
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            tables = {
                hdu.name.upper(): hdu.data for hdu in hdus if isinstance(hdu, fits.BinTableHDU)
            }
    except OSError as error:
        raise FitsError(f"{path}: not FITS ({error})") from None
    psf, theta = tables.get("PSF"), tables.get("THETA")
    if psf is None or theta is None or not {"ENERGY", "PSF"} <= {n.upper() for n in psf.names}:
        return None
    angles = np.asarray(theta[theta.names[0]], np.float64)
    return PsfTable(_in_mev(psf, "Energy"), angles, np.asarray(psf["Psf"], np.float64), str(path))


def celestial_wcs(image: FitsImage):
    """The WCS of the sky of an image, or None where it has none."""
    wcs = wcs_of(image)
    return wcs.celestial if wcs is not None and wcs.has_celestial else None


def pixel_scale(image: FitsImage) -> float | None:
    """Degrees of a pixel along the second axis, by the WCS or else by CDELT2; None where neither is known."""
    wcs = celestial_wcs(image)
    if wcs is not None:
        return float(proj_plane_pixel_scales(wcs)[1])
    step = image.header.get("CDELT2")
    return abs(step) if isinstance(step, float) and step not in (0.0, 1.0) else None
