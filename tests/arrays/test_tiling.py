import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skies import flat_sky

from bgrem.arrays.tiling import map_tiles


def cut(image, heights):
    """The image in strips of the given heights, repeated as often as needed."""
    y = 0
    while y < len(image):
        for height in heights:
            if y < len(image):
                yield image[y : y + height]
                y += height


def run(function, image, heights=(64,), **options):
    options = {"tile": 96, "overlap": 32, "multiple": 16, **options}
    return np.concatenate(
        list(map_tiles(function, cut(image, heights), image.shape, **options)), axis=1
    )


def identity(tile):
    return tile[None]


def texture(shape, seed=0):
    return flat_sky(shape, 100, 10, seed=seed)


@settings(max_examples=60, deadline=None)
@given(
    ny=st.integers(1, 300),
    nx=st.integers(1, 300),
    tile=st.integers(64, 160),
    overlap=st.integers(0, 32),
    multiple=st.sampled_from([1, 8, 16, 32]),
    calls=st.integers(1, 3),
    heights=st.lists(st.integers(1, 120), min_size=1, max_size=4),
)
def test_identity_gives_the_image_back(ny, nx, tile, overlap, multiple, calls, heights):
    image = texture((ny, nx))
    result = run(
        identity, image, heights, tile=tile, overlap=overlap, multiple=multiple, calls=calls
    )
    assert result.dtype == np.float32
    assert result.shape == (1, ny, nx)
    np.testing.assert_allclose(result[0], image, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(heights=st.lists(st.integers(1, 260), min_size=1, max_size=5))
def test_height_of_strips_makes_no_difference(heights):
    image = texture((257, 131))

    def smooth(tile):
        return ndimage.uniform_filter(tile, 5, mode="constant")[None]

    np.testing.assert_array_equal(run(smooth, image, heights), run(smooth, image, (257,)))


@pytest.mark.parametrize("calls", [1, 3])
def test_a_local_function_leaves_no_seam(calls):
    """A filter that reaches less far than a quarter of the overlap cannot see the tiles."""
    image = texture((301, 233))

    def smooth(tile):
        return ndimage.uniform_filter(tile, 15, mode="constant")[None]

    expected = ndimage.uniform_filter(image, 15, mode="reflect")
    np.testing.assert_allclose(run(smooth, image, calls=calls)[0], expected, rtol=1e-5)


def test_tiles_share_one_grid_evenly():
    seen = []

    def watch(tile):
        seen.append(tile.shape)
        return tile[None]

    run(watch, texture((100, 400)), tile=128, overlap=32, multiple=32)
    # 100 rows are 2 steps of 64 or less, 400 columns 5 of 96; a tile adds the overlap.
    assert set(seen) == {(96, 128)}
    assert len(seen) == 2 * 5
    seen.clear()
    run(watch, texture((40, 40)), tile=512, overlap=32, multiple=32)
    assert seen == [(96, 96)]


def test_a_shift_by_the_step_shifts_the_tiles():
    """Functions that depend on the place in steps of `multiple` are merged consistently."""

    def checkered(tile):
        y, x = np.indices(tile.shape)
        return (tile * ((y // 8 + x // 8) % 2 + 1))[None]

    image = np.ones((200, 300), dtype=np.float32)
    y, x = np.indices(image.shape)
    # The first tile begins 16 pixels before the image.
    expected = ((y + 16) // 8 + (x + 16) // 8) % 2 + 1
    np.testing.assert_allclose(run(checkered, image)[0], expected, rtol=1e-6)


def test_channels_and_order_are_kept():
    image = texture((150, 170))

    def three(tile):
        return np.stack([tile, 2 * tile, -tile])

    result = run(three, image)
    np.testing.assert_allclose(result, np.stack([image, 2 * image, -image]), rtol=1e-6)


def test_strips_come_before_the_whole_image_is_read():
    image = texture((2000, 40))
    read = []

    def strips():
        for y in range(0, 2000, 10):
            read.append(y)
            yield image[y : y + 10]

    next(map_tiles(identity, strips(), image.shape, tile=96, overlap=32))
    assert max(read) < 110


@pytest.mark.parametrize(
    ("shape", "message"), [((120, 50), "end after"), ((80, 50), "more rows"), ((100, 49), "wide")]
)
def test_strips_that_do_not_fit_are_refused(shape, message):
    strips = [texture((50, 50)), texture((50, 50))]
    with pytest.raises(ValueError, match=message):
        list(map_tiles(identity, strips, shape, tile=96, overlap=32))


def test_a_tile_smaller_than_two_overlaps_is_refused():
    with pytest.raises(ValueError, match="too small"):
        run(identity, texture((50, 50)), tile=64, overlap=48)
