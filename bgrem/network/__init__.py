"""The network and what surrounds it, in PyTorch."""

from bgrem.arrays.lazy import lazy_names

_HOME = {"Calibration": "calibration"}

__getattr__, __dir__ = lazy_names(__name__, _HOME)
