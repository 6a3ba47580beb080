import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from skies import flat_sky, gaussian_stars, white_noise

from bgrem.arrays.splines import spline
from bgrem.background import separate
from bgrem.sky.estimate import center_and_scale, estimate_mesh
from bgrem.sky.mesh import Mesh
from bgrem.sky.objects import object_mask


def measured(data, mask=None, box=256):
    """Background and rms in data units, full images."""
    center, scale = center_and_scale(data, mask)
    mesh = estimate_mesh(((data - center) / scale).astype(np.float32), mask, box=box)
    ny = mesh.shape[0]
    return center + scale * mesh.background[:ny], scale * mesh.rms[:ny]


def distance(shape, y, x):
    rows, columns = np.indices(shape)
    return np.hypot(rows - y, columns - x)


# ---- centre and scale ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", ">f4", "f8", "i2", ">i2", "u2", "i8", "f2"])
def test_center_and_scale_of_any_type(dtype):
    data = (1000 + 20 * white_noise((300, 200))).astype(dtype)
    center, scale = center_and_scale(data)
    assert type(center) is float
    assert type(scale) is float
    assert abs(center - 1000) <= 1
    assert abs(scale - 20) <= 1


def test_bad_pixels_do_not_count():
    data = white_noise((64, 64)).astype(np.float64)
    mask = np.zeros(data.shape, dtype=bool)
    mask[:40] = True
    expected = center_and_scale(data[40:])
    data[:20] = 1e6
    data[20:40] = np.nan
    assert center_and_scale(data, mask) == expected
    data[0, 0] = np.inf
    mask[:] = False
    assert np.all(np.isfinite(center_and_scale(data, mask)))


def test_a_filled_gap_is_not_the_sky():
    data = 1000 + white_noise((200, 200))
    data[:, :150] = 0
    center, scale = center_and_scale(data)
    assert abs(center - 1000) < 0.1
    assert abs(scale - 1) < 0.1


def test_a_map_of_few_counts_has_a_scale():
    data = np.random.default_rng(0).poisson(0.001, (300, 300))
    center, scale = center_and_scale(data)
    assert center == 0
    assert 0 < scale < 0.1


@pytest.mark.parametrize("data", [np.zeros((20, 20)), np.full((20, 20), 7, dtype=np.int16)])
def test_a_constant_image_is_refused(data):
    with pytest.raises(ValueError, match="constant"):
        center_and_scale(data)


def test_an_image_without_good_pixels_is_refused():
    with pytest.raises(ValueError, match="no good pixel"):
        center_and_scale(np.full((20, 20), np.nan))


# ---- the mesh ------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    ny=st.integers(1, 300),
    nx=st.integers(1, 300),
    box=st.sampled_from([16, 64, 256]),
    bad=st.sampled_from([0.0, 0.3, 0.99, 1.0]),
)
def test_any_shape_has_level_and_noise(ny, nx, box, bad):
    x = white_noise((ny, nx))
    mask = np.random.default_rng(1).random(x.shape) < bad
    x[mask] = np.nan
    mesh = estimate_mesh(x, mask, box=box)
    background, rms = mesh.background[:ny], mesh.rms[:ny]
    assert background.shape == rms.shape == (ny, nx)
    assert background.dtype == rms.dtype == np.float32
    assert np.all(np.isfinite(background))
    assert np.all(np.isfinite(rms))
    assert np.all(rms > 0)


def test_level_and_rms_of_white_noise():
    background, rms = measured(1000 + 10 * white_noise((600, 700)))
    assert np.abs(background - 1000).max() < 0.5
    np.testing.assert_allclose(rms, 10, rtol=0.03)


def test_rows_do_not_depend_on_the_strip():
    mesh = estimate_mesh(white_noise((300, 200)), box=64)
    whole = mesh.background[:300], mesh.rms[:300]
    for start, stop in [(0, 7), (100, 101), (250, 300)]:
        np.testing.assert_allclose(
            mesh.background[start:stop], whole[0][start:stop], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(mesh.rms[start:stop], whole[1][start:stop], rtol=1e-6)


def test_no_box_is_a_sliver():
    assert estimate_mesh(white_noise((130, 300)), box=64).background_mesh.shape == (2, 5)
    assert estimate_mesh(white_noise((20, 30)), box=64).background_mesh.shape == (1, 1)


def test_the_spline_is_straight_outside_the_cells():
    values = np.array([[1.0, 5, 2, 8]], dtype=np.float32)
    mesh = Mesh(values, np.ones_like(values), 101, (101, 404))
    row = mesh.background[50:51][0]
    np.testing.assert_allclose(row[50::101], values[0], rtol=1e-5)
    np.testing.assert_allclose(np.diff(row[:50], 2), 0, atol=1e-5)
    np.testing.assert_allclose(np.diff(row[-50:], 2), 0, atol=1e-5)


def test_a_gradient_is_background_and_no_noise():
    rows, columns = np.indices((700, 900))
    sky = 0.03 * rows - 0.02 * columns
    background, rms = measured(sky + white_noise(sky.shape))
    assert np.abs(background - sky).max() < 0.15
    np.testing.assert_allclose(rms, 1, rtol=0.05)


def test_a_smooth_vignetting_is_followed():
    sky = -2e-5 * distance((1500, 1500), 700, 800) ** 2
    background, rms = measured(sky + white_noise(sky.shape))
    assert np.percentile(np.abs(background - sky), 95) < 0.5
    assert np.abs(background - sky).max() < 1.5
    assert rms.max() < 1.1


@pytest.mark.parametrize(("height", "length"), [(20, 30), (200, 15), (0.5, 100)])
def test_a_galaxy_is_not_background(height, length):
    galaxy = height * np.exp(-distance((768, 768), 400, 350) / length)
    background, rms = measured(galaxy + white_noise(galaxy.shape))
    assert np.abs(background).max() < 0.1
    np.testing.assert_allclose(rms, 1, rtol=0.05)


def test_a_crowded_field_leaves_the_sky_in_place():
    rng = np.random.default_rng(3)
    data = white_noise((600, 600), seed=4).astype(np.float64)
    stamp = np.exp(-(distance((21, 21), 10, 10) ** 2) / (2 * 1.5**2))
    for y, x in rng.integers(0, 579, (3600, 2)):
        data[y : y + 21, x : x + 21] += 5 * rng.pareto(1.0) * stamp
    background, rms = measured(data)
    # The mean of the image is far higher.
    assert data.mean() > 1
    assert 0 <= np.median(background) < 0.6
    assert rms.max() < 1.6


def test_a_few_wild_pixels_change_nothing():
    data = white_noise((300, 300))
    quiet = measured(data)
    rng = np.random.default_rng(5)
    data.flat[rng.integers(0, data.size, 900)] += 10 ** rng.uniform(1, 7, 900)
    loud = measured(data)
    np.testing.assert_allclose(loud[0], quiet[0], atol=0.05)
    np.testing.assert_allclose(loud[1], quiet[1], rtol=0.05)


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("step", [0.1, 0.3, 0.5, 1.0, 1.5])
def test_quantisation_does_not_move_the_level(step, phase):
    """The median of values in steps jumps from one to the next; the level must not."""
    data = (np.round(white_noise((512, 512)) / step + phase) - phase) * step
    background, rms = measured(data)
    assert np.abs(background).max() < 0.08
    np.testing.assert_allclose(rms, data.std(), rtol=0.05)


@pytest.mark.parametrize("step", [0.02, 0.3, 1.5])
def test_the_step_of_quantised_data_is_found(step):
    x = white_noise((400, 300)).astype(np.float32)
    mesh = estimate_mesh(np.rint(x / step).astype(np.float32) * np.float32(step))
    assert mesh.step == pytest.approx(step, rel=1e-3)
    assert mesh.quantisation == pytest.approx(step / np.median(mesh.rms_mesh), rel=1e-3)
    assert estimate_mesh(x).step == 0


@pytest.mark.parametrize("rate", [0.003, 0.03, 0.3, 3.0, 30.0])
def test_counts_have_their_mean_and_their_noise(rate):
    data = np.random.default_rng(6).poisson(rate, (512, 512))
    background, rms = measured(data)
    assert abs(np.median(background) - rate) < 0.15 * np.sqrt(rate)
    np.testing.assert_allclose(rms, np.sqrt(rate), rtol=0.2)


def test_gaps_take_no_part():
    data = 1000 + white_noise((600, 600))
    data[:, 300:420] = 0
    data[100:180, 100:190] = 65535
    background, rms = measured(data)
    assert np.abs(background - 1000).max() < 0.2
    np.testing.assert_allclose(rms, 1, rtol=0.05)


def test_a_large_filled_gap_is_ignored():
    data = 1000 + white_noise((300, 300))
    data[:180] = 0
    data[200:, 100:110] += 500
    background, rms = measured(data, box=64)
    assert np.abs(background[190:] - 1000).max() < 0.3
    np.testing.assert_allclose(rms, 1, rtol=0.1)


def test_cells_without_counts_have_the_noise_of_others():
    data = np.random.default_rng(9).random((256, 256)) < 0.0008
    _, rms = measured(data.astype(np.float32), box=32)
    assert rms.min() > 0.3 * np.sqrt(0.0008)


def test_masked_pixels_take_no_part():
    data = white_noise((600, 600))
    mask = np.zeros(data.shape, dtype=bool)
    mask[:400, :300] = True
    data[mask] = np.random.default_rng(7).normal(50, 30, mask.sum())
    background, rms = measured(data, mask)
    assert np.abs(background).max() < 0.1
    np.testing.assert_allclose(rms, 1, rtol=0.05)


def test_noise_that_varies_is_followed():
    growth = np.linspace(1, 4, 1024, dtype=np.float32)
    _, rms = measured(white_noise((512, 1024)) * growth)
    np.testing.assert_allclose(rms[256, 200:-200], growth[200:-200], rtol=0.1)


# ---- objects -------------------------------------------------------------------------


def test_objects_and_their_halos_are_found():
    data = white_noise((512, 512))
    halo = 3 * np.exp(-distance(data.shape, 150, 150) / 25)
    star = 20 * np.exp(-(distance(data.shape, 400, 300) ** 2) / 4)
    x = (data + halo + star).astype(np.float32)
    mask = object_mask(x, None, estimate_mesh(x, box=128))
    assert mask.shape == x.shape
    assert mask.dtype == bool
    assert mask[star > 1].all()
    assert mask[halo > 0.25].mean() > 0.95
    assert mask[(halo < 0.01) & (star < 0.01)].mean() < 0.15


def test_bright_stars_have_no_halo_for_being_bright():
    data = white_noise((256, 256))
    star = 0 * data
    for y, x in np.random.default_rng(8).integers(10, 246, (15, 2)):
        star += 60 * np.exp(-(distance(data.shape, y, x) ** 2) / 5)
    x = data + star
    mask = object_mask(x, None, estimate_mesh(x, box=64))
    assert mask[star > 1].all()
    assert mask.mean() < 0.25


def test_bad_pixels_are_no_objects():
    x = white_noise((256, 256))
    mask = np.zeros(x.shape, dtype=bool)
    mask[100:140, 100:140] = True
    x[mask] = 1000
    assert object_mask(x, mask, estimate_mesh(x, mask))[104:136, 104:136].mean() < 0.5


def test_a_mapped_array_gives_the_same_mesh(tmp_path):
    x = white_noise((300, 257))
    np.save(tmp_path / "x.npy", x)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        estimate_mesh(stored).background_mesh, estimate_mesh(x).background_mesh
    )


@pytest.mark.parametrize("box", [100, 200])
def test_a_dark_border_does_not_count_as_noise(box):
    """Overscan that is read with the frame is no sky, though a cell of the mesh holds both."""
    data = 150 + 3 * white_noise((200, 200))
    data[:, :12] -= 150
    data[:20] -= 140
    background, rms = measured(data, box=box)
    assert np.median(background) == pytest.approx(150, abs=0.3)
    assert np.median(rms) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("nodes", [[3.0, 9.0], [0.0, 10.0, 21.0, 30.0], list(range(0, 80, 8))])
def test_the_spline_is_the_natural_one(nodes):
    nodes = np.array(nodes, dtype=np.float64)
    values = white_noise((nodes.size, 3))
    natural = CubicSpline(nodes, values, bc_type="natural")
    inside = np.linspace(nodes[0], nodes[-1], 57)
    np.testing.assert_allclose(spline(nodes, values, inside), natural(inside), atol=1e-5)
    for end, distance in ((nodes[-1], 5.0), (nodes[0], -4.0)):
        tangent = natural(end) + distance * natural(end, 1)
        found = spline(nodes, values, np.array([end + distance]))[0]
        np.testing.assert_allclose(found, tangent, atol=1e-5)


# --- few counts


@pytest.mark.parametrize("unit", [1.0, 0.37, 1e-20])
@pytest.mark.parametrize("mean", [3e-4, 2e-3, 0.02, 0.3])
@pytest.mark.parametrize("stars", [0.0, 5.0])
def test_the_noise_of_few_counts(unit, mean, stars):
    shape = (400, 420)
    places = np.random.default_rng(5).uniform(10, 390, (30, 2)).T
    light = gaussian_stars(shape, *places, stars, 1.4)
    counts = np.random.default_rng(6).poisson(mean + light)
    data = unit * counts + 7 * unit
    center, scale = center_and_scale(data)
    mesh = estimate_mesh(((data - center) / scale).astype(np.float32), box=96)
    rms = scale * np.median(mesh.rms_mesh) / unit
    assert rms == pytest.approx(np.sqrt(mean), rel=0.25)
    assert scale * mesh.step == pytest.approx(unit, rel=1e-5)


def test_counts_over_exposure_are_counts(toy_model):
    exposure = np.linspace(0.7, 1.4, 400)
    data = np.random.default_rng(7).poisson(2e-3 * exposure, (400, 400)) / exposure
    rms = np.median(separate(data, model=toy_model).rms)
    assert rms == pytest.approx(np.sqrt(2e-3), rel=0.25)


def test_an_image_in_a_filled_frame_is_no_map_of_counts(toy_model):
    data = np.zeros((800, 800), np.float32)
    data[350:430, 300:380] = flat_sky((80, 80), 500.0, 8.0)
    parts = separate(data, model=toy_model)
    assert np.median(parts.rms[350:430, 300:380]) == pytest.approx(8, rel=0.15)
    assert np.median(parts.background[350:430, 300:380]) == pytest.approx(500, abs=4)


def test_two_values_are_no_constant_image():
    data = np.zeros((96, 96))
    data[10:42, 10:42] = 7.0
    assert center_and_scale(data)[1] > 0
