"""Simulated skies, with galaxies and optics drawn by GalSim."""

from bgrem.simulate.drawing import draw
from bgrem.simulate.optics import PointSpread, draw_psf
from bgrem.simulate.scene import Scene, Sky
from bgrem.simulate.training_sky import random_scene

__all__ = ["PointSpread", "Scene", "Sky", "draw", "draw_psf", "random_scene"]
