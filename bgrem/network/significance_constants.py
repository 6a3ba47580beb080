"""The constants of one model's significance, which its card holds."""

import json
from dataclasses import asdict, dataclass, fields

__all__ = ["SignificanceConstants"]


@dataclass(frozen=True, kw_only=True)
class SignificanceConstants:
    r"""Constants of SIGNIF, with their symbols in the equation of `bgrem.network.significance`.

    The defaults are those of the optical model.

    Attributes
    ----------
    gathering_sigma : float
        :math:`\sigma_g`: sigma, in FWHM, of the Gaussian that gathers the chances of pixels. It
        weighs about as much as a disc of half a FWHM in radius (entry 14 of the log of experiments,
        ``docs/experiments.rst``).
    centre_radius : float
        :math:`r_c`: radius, in FWHM, of what the network is taught to call a centre
        (`bgrem.train.parents`).
    snr_weight : float
        :math:`w`: weight of the S/N, chosen with ``benchmarks/quality/significance.py``.
    least_chance : float
        :math:`P_{min}`: a limit of safety, so that the logarithm stays finite.
    bright_snr : float
        :math:`S_b`: above it the S/N counts by its logarithm. A limit of safety: brighter sources
        are certain and only their order matters.
    lowest_snr : float
        :math:`S_{min}`: a lower S/N counts as this one. A limit of safety.
    """

    gathering_sigma: float = 0.4
    centre_radius: float = 0.25
    snr_weight: float = 0.5
    least_chance: float = 1e-12
    bright_snr: float = 8.0
    lowest_snr: float = -6.0

    @classmethod
    def from_json(cls, text: str) -> "SignificanceConstants":
        """Read what `to_json` wrote; a constant that is missing has its default.

        Other constants, of the significance of another version, are left out: they are in the graph of the model.
        Raises AttributeError, TypeError or ValueError if the text is no JSON object of numbers.
        """
        known = {field.name for field in fields(cls)}
        entries = {name: float(value) for name, value in json.loads(text).items()}
        return cls(**{name: value for name, value in entries.items() if name in known})

    def to_json(self) -> str:
        """The constants as a JSON object."""
        return json.dumps(asdict(self))
