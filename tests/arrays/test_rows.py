"""Images by rows, wherever they lie."""

import numpy as np
import pytest
from skies import flat_sky

from bgrem.arrays.rows import Computed, Derived, Scratch, as_rows
from bgrem.sky.measured import sky_of_mesh
from bgrem.sky.mesh import Mesh
from bgrem.sky.standard import SkyMap

SHAPE = (90, 70)


def stored(image, folder):
    rows = Scratch(folder, limit=0).empty(image.shape, image.dtype)
    rows[:] = image
    return rows


def a_mesh():
    cells = flat_sky((3, 2))
    return Mesh(cells, np.abs(cells), 32, SHAPE)


KINDS = {
    "memory": lambda image, _: image,
    "file": stored,
    "derived": lambda image, _: Derived(image, lambda part: part + 0),
    "computed": lambda image, _: Computed(image.shape, image.dtype, lambda rows: image[rows]),
    "kept": lambda image, _: Computed(
        image.shape, image.dtype, lambda rows: image[rows], keep=True
    ),
    "level": lambda *_: a_mesh().background,
    "rms": lambda *_: a_mesh().rms,
    "sky in data units": lambda *_: SkyMap(sky_of_mesh(a_mesh()), 5.0, 2.0).background,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_its_rows(tmp_path, kind):
    rows = KINDS[kind](flat_sky(SHAPE), tmp_path)
    whole = rows[:]
    assert rows.shape == whole.shape == SHAPE
    assert rows.dtype == whole.dtype
    for part in (slice(0, 7), slice(60, 90), slice(85, 200), slice(-3, None), slice(10, 10)):
        np.testing.assert_array_equal(rows[part], whole[part])


@pytest.mark.parametrize("keep", [False, True])
def test_blocks_of_computed_rows_are_parts(keep):
    image, calls = flat_sky(SHAPE), []
    rows = Computed(SHAPE, np.float32, lambda part: calls.append(part) or image[part], keep=keep)
    for columns in (slice(0, 30), slice(30, 70)):
        np.testing.assert_array_equal(rows[10:20, columns], image[10:20, columns])
    assert len(calls) == (1 if keep else 2)


def test_what_is_computed_stays_so():
    image = flat_sky(SHAPE)
    derived = Derived(image, lambda part: part > 0, bool)
    assert as_rows(derived) is derived
    assert derived.dtype == bool
    assert as_rows(image) is image
    assert type(as_rows([[1, 2]])) is np.ndarray


@pytest.mark.parametrize("kind", KINDS)
def test_steps_and_columns_are_heeded(tmp_path, kind):
    rows = KINDS[kind](flat_sky(SHAPE), tmp_path)
    np.testing.assert_array_equal(rows[5:80:7, 3:60:4], rows[:][5:80:7, 3:60:4])
