"""What an image is separated into, and how its parts are put together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from bgrem import __version__
from bgrem.arrays.rows import MEMORY, Memory, Rows
from bgrem.arrays.tiling import row_strips
from bgrem.inference.denoiser import MAP_OF_CHANNEL
from bgrem.inference.model import ModelCard
from bgrem.masks.flags import ARTEFACT, NOT_FINITE, UNSEEN
from bgrem.options import Options, Run
from bgrem.sky.measured import sky_of_mesh
from bgrem.sky.mesh import Mesh
from bgrem.sky.standard import SkyMap

__all__ = ["NoteOfAllPlanes", "Parts", "Provenance", "Separation", "constant_separation"]

LARGEST_LOG_VARIANCE = 60.0  # a limit of safety: the exponential of more overflows


class NoteOfAllPlanes(str):
    """A warning that holds for all planes of a cube, which are separated together: it is given once."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Provenance(Mapping):
    """How the parts of an image came about, a mapping; ``dict(provenance)`` makes a plain dict.

    Attributes
    ----------
    version : str
        Of bgrem.
    model, sha256 : str
        Name of the model, and the hash of its file.
    engine : str
        The engine that ran the model, with its device and precision.
    steps : int
        Diffusion steps.
    norm : float
        Normalisation factor; 0 where the noise was estimated as a map.
    level, rms : float
        Medians of the sky's level and rms, in data units.
    minpix : float or None
        The level to which lower pixels were raised.
    fwhm : float
        Of the stars, in pixels; NaN where nothing was separated.
    fwhm_from : str or None
        Where it is from: "given", measured on "stars" or on "faint stars", estimated from the
        correlation of the "noise", or "assumed".
    signif_1, signif_10 : float or None
        Significances above which 1 and 10 false detections per Mpix are expected; None where the
        model's card has no such number.
    weight : str or None
        Type of the weight map.
    saturate : float or None
        Saturation level in data units.
    lost_light : float
        Part of the light above 5 rms that is in the noise; masked and saturated pixels do not count.
    sky : str
        What measured the sky: "network" and the first 12 digits of its file's SHA-256, or "mesh".
    extended : str
        Where wide light is: "sources" or "background".
    error_64, error_256 : float
        Factors of the error of the background for its means over 64 x 64 and 256 x 256 pixels.
    warnings : list of str
        What a user must know of this frame, a short sentence each.
    """

    version: str
    model: str
    sha256: str
    engine: str
    steps: int
    norm: float
    level: float
    rms: float
    minpix: float | None
    fwhm: float
    signif_1: float | None
    signif_10: float | None
    fwhm_from: str | None = None
    weight: str | None = None
    saturate: float | None = None
    lost_light: float = 0.0
    sky: str = "mesh"
    extended: str = "sources"
    error_64: float = 1.0
    error_256: float = 1.0
    warnings: Sequence[str] = ()

    def __getitem__(self, name: str) -> Any:
        if name not in iter(self):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))

    def __len__(self) -> int:
        return len(fields(self))


@dataclass(frozen=True, eq=False)
class Separation:
    """An image in parts: ``sources + background + noise`` equals the data, to rounding.

    Background, noise and rms are computed when they are first asked for; they are
    float64 for float64 data and else float32, and in data units, as the sources are.

    Attributes
    ----------
    data : `~numpy.ndarray`
        The image, of shape (ny, nx), as it was given.
    sources : `~numpy.ndarray`
        NaN where the data are not finite.
    sky : `~bgrem.sky.standard.SkyMap`
        The level of the sky, its error and its noise, and the wide light, in data units.
    mask : `~numpy.ndarray`
        uint8 of shape (ny, nx). Bits: 1 not finite in the data, 2 masked by the user,
        4 artefact found by the model, 8 saturated, 16 no data (weight 0, or in a
        border that is filled with zeros or saw no light).
    provenance : Provenance
        How the parts came about.
    uncertainty : `~numpy.ndarray` or None
        Standard deviation of the sources, with the error of the background; None if the model
        gives none.
    significance : `~numpy.ndarray` or None
        SIGNIF: how significant a source is whose centre is near the pixel, as
        `bgrem.network.significance` defines it; None if the model gives none.
    store : `~bgrem.arrays.rows.Memory`
        Where the parts are kept that are yet to be computed.
    """

    data: np.ndarray
    sources: np.ndarray
    sky: SkyMap
    mask: np.ndarray
    provenance: Provenance
    uncertainty: np.ndarray | None = None
    significance: np.ndarray | None = None
    store: Memory = MEMORY

    @cached_property
    def background(self) -> np.ndarray:
        """The smooth sky; it continues under bad pixels."""
        return self._stored(self.sky.background)

    @cached_property
    def rms(self) -> np.ndarray:
        """Standard deviation of the noise of the sky."""
        return self._stored(self.sky.rms)

    @cached_property
    def background_error(self) -> np.ndarray | None:
        """Standard deviation of the error of the background, of its means over 16 x 16 pixels; None of counts maps."""
        return None if self.sky.error is None else self._stored(self.sky.error)

    @cached_property
    @np.errstate(all="ignore")
    def noise(self) -> np.ndarray:
        """Data - background - sources; NaN where the data are not finite."""
        background = self.background  # as it is stored, so that the parts add up despite rounding
        noise = self.store.empty(self.sources.shape, self.sources.dtype)
        for rows in row_strips(noise.shape):
            with np.errstate(invalid="ignore", over="ignore"):  # infinite and signalling NaN pixels
                rest = np.subtract(self.data[rows], background[rows], dtype=np.float64)
                noise[rows] = rest - self.sources[rows]
        return noise

    def interval(self, probability: float = 0.683) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limits of the sources of a counts map, which are not symmetric where counts are few.

        They are quantiles of the gamma distribution with the mean ``sources`` and the standard deviation
        ``uncertainty``: the posterior of a Poisson expectation has this shape. It needs SciPy.

        Parameters
        ----------
        probability : float
            Of the interval, in its middle.

        Returns
        -------
        low, high : ndarray, (ny, nx) float64

        Raises
        ------
        ValueError
            If there is no uncertainty.
        """
        from scipy.stats import gamma

        if self.uncertainty is None:
            raise ValueError("there is no uncertainty: ask for it with maps=('uncertainty',)")
        variance = np.maximum(np.asarray(self.uncertainty, np.float64) ** 2, 1e-300)
        mean = np.maximum(np.asarray(self.sources, np.float64), 1e-150)
        tail = 0.5 * (1 - probability)
        law = gamma(mean**2 / variance, scale=variance / mean)
        return law.ppf(tail), law.ppf(1 - tail)

    def catalog(
        self, *, threshold: float | None = None, gain: float | None = None, zeropoint: float | None = None,
        wcs: Any = None, unit: str = "", detected: "Separation | None" = None,
    ) -> Any:  # fmt: skip
        """List the sources, measured on data - background.

        Parameters
        ----------
        threshold : float, optional
            Least SIGNIF. Default: that of 10 false detections per Mpix.
        gain : float, optional
            Electrons per data unit. Without it errors lack the photon noise of the sources.
        zeropoint : float, optional
            Magnitude of one data unit; without it there are no magnitudes.
        wcs : `~astropy.wcs.WCS`, optional
            Gives the places on the sky.
        unit : str
            Of the data.
        detected : Separation, optional
            Of another image on the same pixels, on which the sources are detected.

        Returns
        -------
        `~astropy.table.QTable`
            The columns are those of the option ``--catalog``.

        Raises
        ------
        ValueError
            If there is no significance, or no threshold is known, or it is a map of counts.
        """
        if self.sky.error is None:
            raise ValueError(
                "there is no catalogue of a map of counts: its errors are not Gaussian"
            )
        from bgrem.catalogue.source_measurement import measure_sources
        from bgrem.catalogue.table import catalogue_table
        from bgrem.io.header_facts import ZeroPoint

        threshold = self.provenance.signif_10 if threshold is None else threshold
        if threshold is None:
            raise ValueError("the model is not calibrated: give a threshold of the significance")
        columns, measuring = measure_sources(
            self, threshold=threshold, gain=gain, detected=detected
        )
        zero_point = None if zeropoint is None else ZeroPoint(zeropoint, "given")
        return catalogue_table(columns, measuring, unit=unit, wcs=wcs, zero_point=zero_point)

    @np.errstate(all="ignore")
    def _stored(self, rows_of: Rows) -> np.ndarray:
        part = self.store.empty(self.sources.shape, self.sources.dtype)
        for rows in row_strips(part.shape):
            part[rows] = rows_of[rows]
        return part


def constant_separation(data: np.ndarray, flags: np.ndarray, level: float) -> Separation:
    """The parts of an image whose good pixels all have one value: background without a noise.

    ``flags`` are uint8 of the shape of the data, `bgrem.masks.flags`. No model is involved.
    """
    cell = np.zeros((1, 1), np.float32)
    sky = SkyMap(sky_of_mesh(Mesh(cell, cell, max(data.shape), data.shape)), level, 1.0)
    dtype = data.dtype if data.dtype.kind == "f" else np.float32
    sources = np.where(flags & NOT_FINITE, np.nan, 0).astype(dtype)
    provenance = Provenance(
        version=__version__, model="none", sha256="", engine="none", steps=0, norm=0.0,
        level=level, rms=0.0, minpix=None, fwhm=np.nan, signif_1=None, signif_10=None,
    )  # fmt: skip
    return Separation(data, sources, sky, flags, provenance)


class Parts:
    """The parts of an image, filled by rows with the channels of a model.

    Parameters
    ----------
    channels : sequence of str
        Names of the channels; the first is "residual", which holds the sources by now.
    pixels : `~numpy.ndarray`
        The image as float32. The sources take its memory where the dtype is the same: rows
        that are put have been read.
    flags : `~numpy.ndarray`
        uint8 of shape (ny, nx), `bgrem.masks.flags`; becomes the mask.
    card : `~bgrem.inference.ModelCard`
        Its calibration corrects the uncertainty, where the options ask for it.
    options : `~bgrem.options.Options`
    dtype : dtype
        Of the parts.
    run : `~bgrem.options.Run`
    """

    def __init__(
        self,
        channels: Sequence[str],
        pixels: np.ndarray,
        flags: np.ndarray,
        card: ModelCard,
        options: Options,
        dtype: np.dtype,
        run: Run,
    ) -> None:
        self._channels = channels
        self._calibration = card.calibration if options.calibrated else None
        self.mask = flags
        self.sources = pixels if pixels.dtype == dtype else run.empty(pixels.shape, dtype)
        self.maps = {
            MAP_OF_CHANNEL[name]: run.empty(pixels.shape, dtype)
            for name in channels
            if name in MAP_OF_CHANNEL
        }

    def put(self, rows: slice, strip: np.ndarray, rms: np.ndarray) -> None:
        """Take the channels of some rows, which are in units of the rms.

        ``strip`` is float32 of shape (c, rows, nx), in the order of the channels. ``rms`` is that of the sky in
        these rows, in data units, float64 of shape (rows, nx).
        """
        for name, channel in zip(self._channels, strip, strict=True):
            if name == "residual":
                self.sources[rows] = channel * rms
            elif name == "log_variance":
                self.maps["uncertainty"][rows] = self._deviation(channel, strip[0]) * rms
            elif name == "artefact":
                bit = (channel > 0).view(np.uint8) * np.uint8(ARTEFACT)
                self.mask[rows] = self.mask[rows] | bit
            else:
                self.maps[MAP_OF_CHANNEL[name]][rows] = channel

    def add(self, light: Rows | None, sky: SkyMap) -> None:
        """Add wide light, in units of the sky's scale, to the sources, and the sky's error to their uncertainty."""
        uncertainty = self.maps.get("uncertainty")
        if light is None and uncertainty is None:
            return
        for rows in row_strips(self.mask.shape):
            if light is not None:
                self.sources[rows] = self.sources[rows] + sky.scale * light[rows]
            if uncertainty is not None:
                uncertainty[rows] = np.hypot(uncertainty[rows], sky.error[rows])

    def _deviation(self, log_variance: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Standard deviation of the sources, in units of the sky rms as they are."""
        sigma = np.exp(0.5 * np.minimum(log_variance, LARGEST_LOG_VARIANCE))
        return sigma if self._calibration is None else self._calibration.uncertainty(sigma, sources)

    def blank(self, bad: Rows | None) -> None:
        """No sources in bad pixels, if there are any, and NaN where the data are not finite."""
        if bad is None:
            return
        for rows in row_strips(self.mask.shape):
            bits = self.mask[rows]
            if not (bits & UNSEEN).any():
                continue
            for part in (self.sources, *self.maps.values()):
                strip = part[rows]
                if part is self.sources:
                    strip[(bits & UNSEEN) != 0] = 0
                strip[(bits & NOT_FINITE) != 0] = np.nan
                part[rows] = strip
