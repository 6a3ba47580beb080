"""What a model's own uncertainty and significance are worth, as measured on simulated frames."""

import json
from dataclasses import asdict, dataclass, fields

import numpy as np

__all__ = ["Calibration"]


@dataclass(frozen=True)
class Calibration:
    """Corrections of an uncertainty, and the false alarms of a significance.

    Attributes
    ----------
    sigma, sigma_factor : tuple of float
        Standard deviations of the sources as a network gives them, in units of the sky's rms,
        ascending, and the true ones over these.
    brightness, brightness_factor : tuple of float
        Sources as a network gives them, in units of the sky's rms, ascending, and what remains to
        be corrected there.
    threshold, false_alarms : tuple of float
        Significances, ascending, and the false detections per Mpix above each.
    circle_radius, circle_brightness : tuple of float
        Radii of circles in FWHM, and sums of the sources in them in units of the sky's noise of
        the sum, both ascending; empty where nothing is known of sums.
    circle_correlation : tuple of tuple of float
        For each radius and brightness, how far the errors of pixels go together: the side of a square of
        that many pixels, in FWHM.
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
        """Read what `to_json` wrote; tables of other versions are left out."""
        known = {field.name for field in fields(cls)}
        tables = {name: _numbers(v) for name, v in json.loads(text).items() if name in known}
        if "circle_correlation" not in tables:  # the radii of another version's table
            tables.pop("circle_radius", None)
        return cls(**tables)

    def to_json(self) -> str:
        """The tables as JSON."""
        return json.dumps(asdict(self))

    def uncertainty(self, sigma: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """The standard deviation of sources.

        Parameters
        ----------
        sigma, sources : `~numpy.ndarray`
            As the network gives them, of one shape, in units of the sky's rms.

        Returns
        -------
        `~numpy.ndarray`
            Of that shape, in units of the sky's rms.
        """
        factor = _between(np.log(sigma), np.log(self.sigma), self.sigma_factor)
        bright = _between(
            _compressed(sources), _compressed(self.brightness), self.brightness_factor
        )
        return sigma * factor * bright

    def of_circles(self, radius, brightness, *, fwhm) -> np.ndarray:
        """By how much the errors of a circle's pixels, which go together, widen that of their sum.

        An error that is shared by the pixels of a star's image adds up over them: the variance of a sum
        exceeds that of as many independent pixels by a number of pixels, which grows with the area of the
        image.

        Parameters
        ----------
        radius : float
            In FWHM. A circle of none is a pixel, whose factor is 1; beyond the largest known one
            the factor is taken to stay.
        brightness : (n,) array_like
            Sums of the sources in the circles over the sky's noise of the sum.
        fwhm : float
            Full width at half maximum of the stars in pixels.

        Returns
        -------
        (n,) `~numpy.ndarray`
            float64, 1 at the least.

        Raises
        ------
        ValueError
            If the model was not calibrated for sums.
        """
        if not self.circle_radius:
            raise ValueError("the model's card says nothing of the uncertainty of sums")
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

        Beyond the table's ends it is that of the end: an upper limit above, a lower one below.
        """
        rates = np.log(self.false_alarms)
        return float(np.exp(np.interp(threshold, self.threshold, rates)))

    def threshold_for(self, rate: float) -> float:
        """The threshold of the significance above which so many false detections per Mpix are.

        Raises
        ------
        ValueError
            If the table does not reach that rate.
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
    """Lists of numbers, or of such lists, as tuples of floats."""
    return tuple(_numbers(v) if isinstance(v, list) else float(v) for v in values)


def _compressed(x) -> np.ndarray:
    """Linear near zero and a logarithm far from it."""
    return np.arcsinh(np.asarray(x))


def _between(at: np.ndarray, nodes, values) -> np.ndarray:
    return np.interp(at, nodes, values).astype(np.asarray(at).dtype)
