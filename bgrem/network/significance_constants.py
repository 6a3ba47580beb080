"""The constants of one model's significance, which its card holds."""

import json
from dataclasses import asdict, dataclass

__all__ = ["SignificanceConstants"]


@dataclass(frozen=True, kw_only=True)
class SignificanceConstants:
    r"""Constants of SIGNIF, with their symbols in the equation of `bgrem.network.significance`.

    The defaults are those of the optical model. The numbers in brackets are entries of the log of
    experiments, ``docs/experiments.rst``, that chose them.

    Attributes
    ----------
    gathering_sigma : float
        :math:`\sigma_g`: sigma, in FWHM, of the Gaussian that gathers the chances of pixels. It
        weighs about as much as the disc of half a FWHM in radius of (14).
    centre_radius : float
        :math:`r_c`: radius, in FWHM, of what the network is taught to call a centre
        (`bgrem.train.parents`).
    least_chance : float
        :math:`P_{min}`: a limit of safety, so that the logarithm stays finite.
    snr_weight : float
        :math:`w`: weight of the S/N in white noise; 0.5 to 1 give equal results (28).
    correlated_weight, correlated_from : float
        :math:`\kappa, C_0`: added weight of the S/N per unit of noise correlation above
        :math:`C_0`. A lower correlation is as often that of crowds and nebulae (36, 38).
    highest_noise_snr : float
        :math:`S_n`: S/N of the highest noise peaks, at which the added weight has no effect (38).
    doubted_chance : float
        :math:`P_d`: a lower chance is a doubt of the network. It is below 1 because the network
        doubts real sources that differ from the simulated ones (31, 35).
    doubt_weight, doubt_from_snr, doubt_to_snr : float
        :math:`\delta, S_1, S_2`: added weight of a doubt per unit of S/N between :math:`S_1` and
        :math:`S_2` (29). What is far above the noise is a source or an artefact.
    bright_snr : float
        :math:`S_b`: above it the S/N counts by its logarithm. A limit of safety: brighter sources
        are certain and only their order matters.
    lowest_snr : float
        :math:`S_{min}`: a lower S/N counts as this one. A limit of safety.
    """

    gathering_sigma: float = 0.4
    centre_radius: float = 0.25
    least_chance: float = 1e-12
    snr_weight: float = 0.75
    correlated_weight: float = 5.0
    correlated_from: float = 0.15
    highest_noise_snr: float = 6.0
    doubted_chance: float = 0.5
    doubt_weight: float = 0.5
    doubt_from_snr: float = 4.0
    doubt_to_snr: float = 8.0
    bright_snr: float = 8.0
    lowest_snr: float = -6.0

    @classmethod
    def from_json(cls, text: str) -> "SignificanceConstants":
        """Read what `to_json` wrote; a constant that is missing has its default.

        Raises TypeError for an unknown constant, and ValueError if the text is no JSON object of numbers.
        """
        return cls(**{name: float(value) for name, value in json.loads(text).items()})

    def to_json(self) -> str:
        """The constants as a JSON object."""
        return json.dumps(asdict(self))
