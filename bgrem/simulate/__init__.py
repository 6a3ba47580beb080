"""Simulated skies, with galaxies and optics drawn by GalSim."""

from bgrem.simulate.drawing import draw
from bgrem.simulate.optics import PointSpread, draw_psf
from bgrem.simulate.scene import Scene, Sky
from bgrem.simulate.training_sky import random_scene
from bgrem.simulate.wide_light import WholeFrame, draw_whole_frame

__all__ = [
    "PointSpread",
    "Scene",
    "Sky",
    "WholeFrame",
    "draw",
    "draw_psf",
    "draw_whole_frame",
    "random_scene",
]
