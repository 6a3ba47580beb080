"""Calibration of a model's uncertainty and significance, measured on simulated frames."""

import json
from dataclasses import asdict, dataclass, fields

import numpy as np

__all__ = ["Calibration"]


@dataclass(frozen=True)
class Calibration:
    """Corrections of the uncertainty and false alarms of the significance.

    Attributes
    ----------
    sigma, sigma_factor : tuple of float
        Standard deviations of the sources from the network, in units of the sky rms, ascending,
        and the ratio of the true ones to them.
    brightness, brightness_factor : tuple of float
        Sources from the network, in units of the sky rms, ascending, and the remaining correction
        factor there.
    threshold, false_alarms : tuple of float
        Significances, ascending, and the false detections per Mpix above each.
    circle_radius, circle_brightness : tuple of float
        Radii of circles in FWHM, and sums of the sources in them in units of the sky noise of
        the sum, both ascending; empty if the model was not calibrated for sums.
    circle_correlation : tuple of tuple of float
        Correlation length of the errors of pixels for each radius and brightness: the side, in
        FWHM, of a square of fully correlated pixels.
    """

    sigma: tuple[float, ...]
    sigma_factor: tuple[float, ...]
    brightness: tuple[float, ...]
    brightness_factor: tuple[float, ...]
    threshold: tuple[float, ...]
    false_alarms: tuple[float, ...]
    circle_radius: tuple[float, ...] = ()
    circle_brightness: tuple[float, ...] = ()
    circle_correlation: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """Read what `to_json` wrote, without the tables of other versions."""
        known = {field.name for field in fields(cls)}
        tables = {name: _numbers(v) for name, v in json.loads(text).items() if name in known}
        if "circle_correlation" not in tables:  # they belong to a table of another version
            tables.pop("circle_radius", None)
        return cls(**tables)

    def to_json(self) -> str:
        """The tables as JSON."""
        return json.dumps(asdict(self))

    def uncertainty(self, sigma: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Calibrated standard deviation of the sources.

        Parameters
        ----------
        sigma, sources : `~numpy.ndarray`
            Standard deviation and sources from the network, of one shape, in units of the sky rms.

        Returns
        -------
        `~numpy.ndarray`
            Of that shape and the dtype of ``sigma``, in units of the sky rms.
        """
        factor = _between(np.log(sigma), np.log(self.sigma), self.sigma_factor)
        bright = _between(
            _compressed(sources), _compressed(self.brightness), self.brightness_factor
        )
        return sigma * factor * bright

    def of_circles(self, radius, brightness, *, fwhm) -> np.ndarray:
        """Factor by which the correlation of pixel errors increases the error of a circle's sum.

        The pixels of one star's image share errors. The variance of their sum is that of
        independent pixels times 1 + (FWHM l)**2, with l the correlation length.

        Parameters
        ----------
        radius : float
            In FWHM. At 0 the circle is one pixel, with a factor of 1. Above the largest radius of
            the table the factor is that of the largest radius.
        brightness : (n,) array_like
            Sums of the sources in the circles in units of the sky noise of the sum.
        fwhm : float
            Full width at half maximum of the stars in pixels.

        Returns
        -------
        (n,) `~numpy.ndarray`
            float64, at least 1.

        Raises
        ------
        ValueError
            If the model was not calibrated for sums.
        """
        if not self.circle_radius:
            raise ValueError("the model's card has no calibration of the uncertainty of sums")
        at, nodes = _compressed(brightness), _compressed(self.circle_brightness)
        rows = np.array([np.interp(at, nodes, known) for known in self.circle_correlation])
        rows = np.concatenate([np.zeros_like(rows[:1]), rows])
        radii = np.array((0.0, *self.circle_radius))
        upper = int(np.clip(np.searchsorted(radii, radius), 1, radii.size - 1))
        share = np.clip((radius - radii[upper - 1]) / (radii[upper] - radii[upper - 1]), 0, 1)
        correlation = (1 - share) * rows[upper - 1] + share * rows[upper]
        return np.sqrt(1 + (fwhm * correlation) ** 2)

    def false_alarms_above(self, threshold: float) -> float:
        """False detections per Mpix above a threshold of the significance.

        Outside the table it is the value at the end: an upper limit above, a lower limit below.
        """
        rates = np.log(self.false_alarms)
        return float(np.exp(np.interp(threshold, self.threshold, rates)))

    def threshold_for(self, rate: float) -> float:
        """Threshold of the significance for a rate of false detections per Mpix.

        Raises
        ------
        ValueError
            If the rate is outside the table.
        """
        lowest, highest = self.false_alarms[-1], self.false_alarms[0]
        if not lowest <= rate <= highest:
            raise ValueError(
                f"the rate of false detections is known from {lowest:.3g} to {highest:.3g} per "
                f"Mpix, not at {rate:g}"
            )
        falling = np.log(self.false_alarms)[::-1]
        return float(np.interp(np.log(rate), falling, self.threshold[::-1]))


def _numbers(values) -> tuple:
    """Nested lists of numbers as nested tuples of floats."""
    return tuple(_numbers(v) if isinstance(v, list) else float(v) for v in values)


def _compressed(x) -> np.ndarray:
    """Arcsinh: linear near zero and logarithmic far from it."""
    return np.arcsinh(np.asarray(x))


def _between(at: np.ndarray, nodes, values) -> np.ndarray:
    return np.interp(at, nodes, values).astype(np.asarray(at).dtype)
