"""Pictures: averaged, coded in a byte each, written as PNG."""

import numpy as np
import pytest

from bgrem.report.pictures import AsinhCodes, averaged, before_after, block_factor, png, stretched

RNG = np.random.default_rng(7)


def read_png(content):
    """The grey levels, first row lowest, as another program decodes them."""
    image = pytest.importorskip("PIL.Image")
    import io

    return np.asarray(image.open(io.BytesIO(content)))[::-1]


def test_block_factor_is_the_smallest_that_fits():
    assert [block_factor(shape, 100) for shape in ((100, 50), (101, 7), (3, 1001))] == [1, 2, 11]


@pytest.mark.parametrize("shape", [(40, 60), (1030, 37), (7, 7)])
@pytest.mark.parametrize("factor", [1, 3])
def test_averages_are_those_of_the_blocks(shape, factor):
    image = RNG.normal(size=shape)
    image[:3, :3] = np.nan
    image[5, 5] = np.inf
    small = averaged(image, factor)
    assert small.shape == tuple(-(-n // factor) for n in shape)
    assert np.isnan(small[0, 0])
    for row, column in ((small.shape[0] - 1, small.shape[1] - 1), (5 // factor, 5 // factor)):
        block = image[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        expected = block[np.isfinite(block)]
        found = small[row, column]
        assert np.isnan(found) if not expected.size else found == pytest.approx(expected.mean())


def test_codes_resolve_the_sky_and_reach_bright_stars():
    codes = AsinhCodes.over(-20.0, 1e5, 1.0)
    values = np.array([-20.0, -1.0, 0.0, 0.5, 30.0, 1e5, np.nan])
    back = codes.table()[codes.encode(values)]
    assert np.isnan(back[-1])
    assert back[1:4] == pytest.approx(values[1:4], abs=0.06)
    assert back[[0, 4, 5]] == pytest.approx(values[[0, 4, 5]], rel=0.06)
    assert codes.encode(np.array([-1e9, 1e9])).tolist() == [1, 255]


@pytest.mark.parametrize("picture", [
    RNG.integers(0, 256, (31, 47)), np.add.outer(np.arange(50), np.arange(20)) % 256,
])  # fmt: skip
def test_a_png_holds_its_pixels(picture):
    picture = picture.astype(np.uint8)
    assert np.array_equal(read_png(png(picture)), picture)


def test_smooth_pictures_are_packed_well():
    smooth = np.add.outer(np.arange(200), np.arange(200)).astype(np.uint8)
    assert len(png(smooth)) < smooth.size / 20


def test_before_and_after_have_the_same_stretch():
    before, after = np.zeros((20, 30)), np.full((20, 30), 30.0)
    before[0, 0] = np.nan
    both = read_png(before_after(before, after))
    assert both.shape == (20, 68)
    assert both[0, 0] == 0 and both[-1, 0] == stretched(np.zeros(1))[0]
    assert np.all(both[:, -30:] == 255)
