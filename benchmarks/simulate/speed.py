"""Time to draw a scene on one core: ``OMP_NUM_THREADS=1 python benchmarks/simulate/speed.py``."""

import time

import numpy as np

from bgrem.simulate import Scene, draw, random_scene

COUNT = 20


def seconds(scenes):
    """Seconds of processor time and true sources per scene."""
    start, sources = time.process_time(), 0
    for number, scene in enumerate(scenes):
        sources += (draw(scene, np.random.default_rng(number)).truth["snr"] >= 1).sum()
    return (time.process_time() - start) / len(scenes), sources / len(scenes)


def main():
    crowded = Scene(stars=1200.0, galaxies=800.0)
    draw(crowded, np.random.default_rng(0))  # the bank of galaxies is drawn once
    training = [random_scene(np.random.default_rng(k), shape=(768, 768)) for k in range(COUNT)]
    for name, scenes in (
        ("MeerLICHT, 256 x 256", [crowded] * COUNT),
        ("training sky, 768 x 768", training),
    ):
        taken, sources = seconds(scenes)
        print(f"{name:24s} {taken:6.3f} s per scene, {sources:5.0f} sources of S/N >= 1")


if __name__ == "__main__":
    main()
