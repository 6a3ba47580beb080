"""Real counts maps with what was published with them, read from a folder.

The names are those of the files of gammapy-data and of the test data of sherpa and Agilepy, with the folder before an
underscore. What is not in the folder is left out.
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS, FITSFixedWarning
from scipy.ndimage import map_coordinates, shift
from scipy.signal import fftconvolve

__all__ = [
    "CATALOGUE_RADIUS", "SOURCES_3FGL", "SOURCES_3FHL", "Field", "catalogue_of", "galactic_centre",
    "real_fields",
]  # fmt: skip

#: The Galactic centre above 10 GeV, and a cube from 4 GeV on, of the Fermi-LAT.
CENTRE, CUBE = "fermi3fhl_fermi-3fhl-gc", "fermigc_ccube_00.fits"
CUBE_DIFFUSE, CUBE_PSF = "fermigc_gll_iem_v07_gc.fits.gz", "fermigc_psf_00.fits"
SOURCES_3FHL, SOURCES_3FGL = "catalog_gll_psch_v13.fit.gz", "catalog_gll_psc_v16.fit.gz"
CHANDRA = "chandra_acisf07999_000N001_r0035_regevt3_srcimg.fits"
AGILE = "agile_analysis_product_EMIN00100_EMAX10000_01.cts.gz"
SIMULATED = "poisson_counts.fits.gz"
#: First channels of the bands into which the cube is summed: 4 to 6.3, 6.3 to 10, 10 to 25 and above 25 GeV.
BAND_STARTS = (0, 2, 4, 8)
#: A detection this close to a source of a catalogue is that source, degrees: the PSF's radius of 68 % above 10 GeV.
CATALOGUE_RADIUS = 0.15
#: Energies between which 3FHL gives the flux, MeV.
ENERGIES_3FHL = (1e4, 1e6)
PSF_SIDE = 31  # px
FINE = 5  # parts of a pixel in each direction, of the image of a disc
LEAST_DISC = 0.5  # px: smaller sources are points
KEV_PER_MEV = 1e3
#: FWHM of AGILE's PSF from 100 MeV on, for a spectrum like that of the Crab, in degrees (Sabatini et al. 2015, arXiv:1507.01475).
AGILE_FWHM = 0.9


@dataclass(frozen=True)
class Field:
    """A real map of K energy bands.

    Attributes
    ----------
    name : str
    counts : (K, ny, nx) int64
    exposure, background, psf : (K, ny, nx), (K, ny, nx), (K, n, n) float64 or None
        Exposure in cm2 s; the published diffuse emission in expected counts; the PSF's image.
    catalogue : (K, ny, nx) float64 or None
        Expected counts of the sources of 3FHL by their published fluxes.
    wcs : astropy.wcs.WCS
    fwhm : float or None
        Of the PSF in pixels, where there is no image of it.
    given : dict
        What a separation is given: exposure and template over their means, and the PSF.
    """

    name: str
    counts: np.ndarray
    wcs: WCS
    exposure: np.ndarray | None = None
    background: np.ndarray | None = None
    psf: np.ndarray | None = None
    catalogue: np.ndarray | None = None
    fwhm: float | None = None
    given: dict = field(init=False)

    def __post_init__(self):
        template = None
        if self.background is not None:
            template = self.background / self.exposure
            template = template / template.mean()
        exposure = None if self.exposure is None else self.exposure / self.exposure.mean()
        object.__setattr__(
            self, "given",
            {"exposure": exposure, "template": template, "psf": self.fwhm if self.psf is None else self.psf},
        )  # fmt: skip


def real_fields(folder):
    """The maps of a folder.

    Parameters
    ----------
    folder : path-like

    Yields
    ------
    Field
    """
    folder = Path(folder)
    if (folder / f"{CENTRE}-counts.fits.gz").exists():
        yield galactic_centre(folder)
    if (folder / CUBE).exists():
        yield from _cube(folder)
    others = (
        ("Chandra", CHANDRA, None), ("AGILE", AGILE, AGILE_FWHM),
        ("gammapy's simulation", SIMULATED, None),
    )  # fmt: skip
    for name, file, width in others:
        if (folder / file).exists():
            counts, wcs = _image(folder / file)
            fwhm = width and width / abs(wcs.wcs.cdelt[1])
            yield Field(name, np.rint(counts).astype(np.int64)[None], wcs, fwhm=fwhm)


def galactic_centre(folder):
    """The Galactic centre above 10 GeV, with its published background, PSF and sources, a `Field`."""
    folder = Path(folder)
    (counts, wcs), (background, _), (exposure, _), (psf, _) = (
        _image(folder / f"{CENTRE}-{name}.fits.gz")
        for name in ("counts", "background", "exposure", "psf")
    )
    catalogue = None
    if (folder / SOURCES_3FHL).exists():
        catalogue = _light(folder / SOURCES_3FHL, wcs, exposure, psf, ENERGIES_3FHL)[None]
    return Field(
        "Galactic centre, > 10 GeV", np.rint(counts).astype(np.int64)[None], wcs, exposure[None],
        background[None], psf[None] / psf.sum(), catalogue,
    )  # fmt: skip


def _image(path):
    with fits.open(path) as hdus:
        return np.squeeze(hdus[0].data).astype(np.float64), _places(hdus[0].header)


def _places(header):
    """The WCS on the sky, without notes on its dates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header).celestial


# ---- the cube --------------------------------------------------------------------------


def _cube(folder):
    """The cube as a map of all energies and as one of four bands."""
    with fits.open(folder / CUBE) as hdus:
        cube, wcs = hdus[0].data.astype(np.int64), _places(hdus[0].header)
        bounds = hdus["EBOUNDS"].data
        low, high = bounds["E_MIN"] / KEV_PER_MEV, bounds["E_MAX"] / KEV_PER_MEV  # MeV
    named = ("cube, > 4 GeV", (0,)), ("cube, 4 bands", BAND_STARTS)
    if not all((folder / name).exists() for name in (CUBE_DIFFUSE, CUBE_PSF)):
        for name, starts in named:
            yield Field(name, np.add.reduceat(cube, starts, axis=0), wcs)
        return
    energies = np.sqrt(low * high)
    kernels, exposures = _psf_of_energies(folder / CUBE_PSF, energies, abs(wcs.wcs.cdelt[1]))
    emission = _diffuse(folder / CUBE_DIFFUSE, wcs, cube.shape[1:], energies)
    area = np.deg2rad(abs(wcs.wcs.cdelt[0])) * np.deg2rad(abs(wcs.wcs.cdelt[1]))
    emission *= (exposures * (high - low) * area)[:, None, None]
    background, light = np.zeros((2, *cube.shape))
    inner, catalogue = _inner(cube.shape[1:], emission.shape[1:]), folder / SOURCES_3FHL
    for i, kernel in enumerate(kernels):
        background[i] = fftconvolve(emission[i], kernel, mode="same")[inner]
        if catalogue.exists():
            exposure = np.full(cube.shape[1:], exposures[i])
            light[i] = _light(catalogue, wcs, exposure, kernel, (low[i], high[i]))
    # The PSF and exposure of a band are those of its photons.
    photons = cube.sum(axis=(1, 2)) + 1e-3
    weighted = photons[:, None, None] * kernels
    for name, starts in named:
        counts, psf = (np.add.reduceat(planes, starts, axis=0) for planes in (cube, weighted))
        exposure = np.add.reduceat(exposures * photons, starts) / np.add.reduceat(photons, starts)
        yield Field(
            name, counts, wcs, np.broadcast_to(exposure[:, None, None], counts.shape).copy(),
            np.add.reduceat(background, starts, axis=0), psf / psf.sum(axis=(1, 2), keepdims=True),
            np.add.reduceat(light, starts, axis=0) if catalogue.exists() else None,
        )  # fmt: skip


def _psf_of_energies(path, energies, pixel):
    """Images (K, n, n) of the PSF, and exposures in cm2 s, at energies in MeV; pixels in degrees."""
    with fits.open(path) as hdus:
        table, theta = hdus["PSF"].data, hdus["THETA"].data["Theta"].astype(np.float64)
        known, profiles = table["Energy"].astype(np.float64), table["Psf"].astype(np.float64)
        exposures = np.exp(np.interp(np.log(energies), np.log(known), np.log(table["Exposure"])))
    offsets = (np.arange(PSF_SIDE * FINE) - PSF_SIDE * FINE // 2) * pixel / FINE
    distance = np.hypot(offsets[:, None], offsets)
    images = []
    for energy in energies:
        profile = profiles[np.argmin(np.abs(np.log(known / energy)))]
        fine = np.interp(distance, theta, profile, right=0.0)
        images.append(fine.reshape(PSF_SIDE, FINE, PSF_SIDE, FINE).sum(axis=(1, 3)))
    images = np.array(images)
    return images / images.sum(axis=(1, 2), keepdims=True), exposures


def _diffuse(path, wcs, shape, energies):
    """The diffuse emission (K, ny + 2 m, nx + 2 m) at energies in MeV, with a margin of half a PSF: per MeV s sr cm2."""
    margin = PSF_SIDE // 2
    with fits.open(path) as hdus:
        cube, known = hdus[0].data.astype(np.float64), hdus[1].data["ENERGY_TRUE"]
        grid = _places(hdus[0].header)
    known = np.asarray(known, dtype=np.float64)
    y, x = np.mgrid[-margin : shape[0] + margin, -margin : shape[1] + margin]
    lon, lat = wcs.all_pix2world(x.ravel(), y.ravel(), 0)
    u, v = grid.all_world2pix((lon + 180.0) % 360.0 - 180.0, lat, 0)
    planes = np.stack(
        [map_coordinates(np.log(plane), [v, u], order=1, mode="nearest") for plane in cube]
    )
    # Evenly in the logarithms, as the emission is a power law.
    place = np.interp(np.log(energies), np.log(known), np.arange(known.size))
    low = np.minimum(place.astype(int), known.size - 2)
    share = (place - low)[:, None]
    mixed = (1 - share) * planes[low] + share * planes[low + 1]
    return np.exp(mixed).reshape(-1, *x.shape)


def _inner(shape, larger):
    return tuple(
        slice((big - side) // 2, (big - side) // 2 + side)
        for side, big in zip(shape, larger, strict=True)
    )


# ---- catalogues ------------------------------------------------------------------------


def catalogue_of(path, wcs, shape):
    """Sources of a Fermi catalogue in a map, with the radius of those that are extended.

    Parameters
    ----------
    path : path-like
        3FHL or 3FGL.
    wcs : astropy.wcs.WCS
    shape : tuple of int

    Returns
    -------
    astropy.table.Table
        The catalogue's rows, with columns x and y in pixels and radius in degrees, 0 for point sources.
    """
    table = Table.read(path, hdu=1)
    extended = Table.read(path, hdu="ExtendedSources")
    radii = {
        str(row["Source_Name"]).strip(): float(row["Model_SemiMajor"] or 0.0) for row in extended
    }
    lon = (np.asarray(table["GLON"], dtype=np.float64) + 180.0) % 360.0 - 180.0
    x, y = wcs.all_world2pix(lon, np.asarray(table["GLAT"], dtype=np.float64), 0)
    # A map whose reference longitude is 360 degrees counts from there.
    x = (x + 180.0 / abs(wcs.wcs.cdelt[0])) % (360.0 / abs(wcs.wcs.cdelt[0])) - 180.0 / abs(
        wcs.wcs.cdelt[0]
    )
    table["x"], table["y"] = x, y
    names = [str(name).strip() for name in table["Extended_Source_Name"]]
    table["radius"] = [radii.get(name, 0.0) for name in names]
    inside = (x > -0.5) & (y > -0.5) & (x < shape[1] - 0.5) & (y < shape[0] - 0.5)
    return table[inside]


def _light(path, wcs, exposure, psf, energies):
    """Expected counts of 3FHL's sources between two energies in MeV, (ny, nx).

    The flux of each is that of 10 GeV to 1 TeV, carried to other energies by its power law. Extended ones are discs of their
    published radius.
    """
    shape, pixel = exposure.shape, abs(wcs.wcs.cdelt[1])
    margin, psf = psf.shape[0] // 2, psf / psf.sum()
    points, wide = np.zeros((2, *(side + 2 * margin for side in shape)))
    for source in catalogue_of(path, wcs, shape):
        index = float(source["PowerLaw_Index"])
        bounds = np.array([energies, ENERGIES_3FHL]) / ENERGIES_3FHL[0]
        integrals = (bounds[:, 0] ** (1 - index) - bounds[:, 1] ** (1 - index)) / (index - 1)
        flux = float(source["Flux"]) * integrals[0] / integrals[1]
        x, y = float(source["x"]), float(source["y"])
        row, column = np.rint([y, x]).astype(int)
        flux *= exposure[min(max(row, 0), shape[0] - 1), min(max(column, 0), shape[1] - 1)]
        radius = source["radius"] / pixel
        if radius > LEAST_DISC:
            wide += flux * _disc(x + margin, y + margin, radius, wide.shape)
        else:
            # The margin is half a PSF: the image begins where the source's pixel is.
            stamp = shift(psf, (y - row, x - column), order=3)
            at = np.s_[row : row + len(psf), column : column + len(psf)]
            points[at] += (flux * stamp / stamp.sum())[: points[at].shape[0], : points[at].shape[1]]
    light = points + fftconvolve(wide, psf, mode="same")
    return np.maximum(light[_inner(shape, light.shape)], 0.0)


def _disc(x, y, radius, shape):
    """A disc of sum 1, of which the part in the image is there."""
    image = np.zeros(shape)
    steps = (np.arange(FINE) + 0.5) / FINE - 0.5
    v, u = np.ogrid[: shape[0], : shape[1]]
    for down in steps:
        for right in steps:
            image += (v + down - y) ** 2 + (u + right - x) ** 2 <= radius**2
    return image / (FINE**2 * np.pi * radius**2)
