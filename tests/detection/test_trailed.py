"""Stars that are trails are recognised; round stars, bad columns and particles are none."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bgrem import separate
from bgrem.detection.frame import measure_frame


def trails(length, angle, *, count=60, side=600, seed=3):
    """Noise and stars that moved along one direction, in sky rms."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side))
    along = np.linspace(-0.5, 0.5, int(4 * length) + 1) * length
    for y, x in rng.uniform(20, side - 20, (count, 2)):
        flux = 10 ** rng.uniform(2.5, 4) * max(1, length / 6)
        rows = np.rint(y + along * np.sin(np.deg2rad(angle))).astype(int)
        columns = np.rint(x + along * np.cos(np.deg2rad(angle))).astype(int)
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        np.add.at(image, (rows[inside], columns[inside]), flux / along.size)
    return (gaussian_filter(image, 1.1) + rng.normal(size=image.shape)).astype(np.float32)


@pytest.mark.parametrize("length", [10, 30, 150])
@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_trails_are_found_with_their_direction(length, angle):
    found = measure_frame(trails(length, angle)).trails
    assert abs((found.angle - angle + 90) % 180 - 90) < 3
    assert found.count > 8


def test_round_stars_are_no_trails():
    assert measure_frame(trails(0.5, 20)).trails is None


def test_bad_columns_are_no_trails():
    image = trails(0.5, 20)
    image[:, 7::40] += 40
    image[300:, 20::50] += 40
    assert measure_frame(image).trails is None


def test_an_empty_frame_has_none():
    noise = np.random.default_rng(1).normal(size=(200, 300)).astype(np.float32)
    assert measure_frame(noise).trails is None


def test_a_user_is_told(toy_model):
    warnings = separate(100 + trails(30, 45), model=toy_model).provenance.warnings
    assert sum("stars are trails at 45 degrees" in text for text in warnings) == 1
