"""Simulated skies: scenes by GalSim with every ingredient that a real frame has.

``psf`` draws the point-spread function, ``galaxies`` the galaxies, ``skies`` the smooth
background, ``detector`` the noise and the defects; ``scene`` puts them together, and
``training_sky`` draws the wide range of scenes that the networks are trained on.
"""

from bgrem.simulate.optics import PointSpread, draw_psf
from bgrem.simulate.scene import Scene, Sky, draw
from bgrem.simulate.training_sky import random_scene

__all__ = ["PointSpread", "Scene", "Sky", "draw", "draw_psf", "random_scene"]
