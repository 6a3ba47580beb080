"""What a model's own uncertainty and significance are worth, as measured on simulated frames."""

import json
from dataclasses import asdict, dataclass

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
    """

    sigma: tuple[float, ...]
    sigma_factor: tuple[float, ...]
    brightness: tuple[float, ...]
    brightness_factor: tuple[float, ...]
    threshold: tuple[float, ...]
    false_alarms: tuple[float, ...]

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """Read what `to_json` wrote."""
        return cls(**{name: tuple(map(float, values)) for name, values in json.loads(text).items()})

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


def _compressed(x) -> np.ndarray:
    """Linear near zero and a logarithm far from it."""
    return np.arcsinh(np.asarray(x))


def _between(at: np.ndarray, nodes, values) -> np.ndarray:
    return np.interp(at, nodes, values).astype(np.asarray(at).dtype)
