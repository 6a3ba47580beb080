"""The alarm for light that the sky mesh has taken for sky."""

import numpy as np
import pytest
from skies import exponential_disc, white_noise

from bgrem.sky.estimate import estimate_mesh
from bgrem.sky.objects import absorbed_light

SIZE = 1100


def noise(seed=0):
    return white_noise((SIZE, SIZE), seed=seed)


def disc(x, y, radius, height):
    return exponential_disc((SIZE, SIZE), x, y, radius, height)


def test_a_galaxy_wider_than_the_box_is_told():
    place = absorbed_light(estimate_mesh(noise() + disc(640, 400, 90, 40), box=128))
    assert place is not None
    assert np.hypot(place[0] - 640, place[1] - 400) < 200


def test_a_larger_box_keeps_it():
    assert absorbed_light(estimate_mesh(noise() + disc(640, 400, 90, 40), box=1024)) is None


@pytest.mark.parametrize("seed", range(3))
def test_no_alarm_for_what_fits_into_a_box(seed):
    rng = np.random.default_rng(seed)
    data = noise(seed)
    for _ in range(60):
        data += disc(*rng.uniform(0, SIZE, 2), rng.uniform(2, 6), 10 ** rng.uniform(0, 2))
    assert absorbed_light(estimate_mesh(data, box=128)) is None


def test_no_alarm_for_a_gradient_or_vignetting():
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    data = noise() + 30 * columns - 20 * ((rows - 0.5) ** 2 + (columns - 0.5) ** 2)
    assert absorbed_light(estimate_mesh(data, box=128)) is None


def test_a_mesh_of_few_cells_cannot_tell():
    assert absorbed_light(estimate_mesh(noise()[:200, :200], box=128)) is None
