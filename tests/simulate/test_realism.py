"""The realism gate notices what the simulator does not draw, and nothing else."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from bgrem.cli.simulate import main
from bgrem.simulate import realism
from bgrem.simulate.realism import (
    STATISTICS,
    BlankSky,
    blank_sky,
    judge,
    patch_statistics,
    simulated_skies,
)

NAMES = list(realism.PATCH_STATISTICS)
GOOD = np.ones((64, 64), bool)


def white(seed=0, shape=(64, 64)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def measured(x, name, good=GOOD):
    return patch_statistics(x.astype(np.float32), good)[NAMES.index(name)]


def test_white_noise_has_the_values_of_white_noise():
    table = np.array([patch_statistics(white(seed), GOOD) for seed in range(20)])
    values = dict(zip(NAMES, table.mean(axis=0), strict=True))
    assert values["level"] == pytest.approx(0, abs=0.01)
    assert values["spread"] == pytest.approx(0, abs=0.02)
    assert values["skewness"] == pytest.approx(0, abs=0.05)
    assert values["kurtosis"] == pytest.approx(np.log10(3), abs=0.02)
    for name in NAMES:
        if name.startswith(("corr", "odd_even")):
            assert values[name] == pytest.approx(0, abs=0.02), name
        if "power" in name:
            assert values[name] == pytest.approx(0, abs=0.25), name


def test_each_statistic_tells_its_own_fault():
    x, rng = white(), np.random.default_rng(1)
    few = rng.random(x.shape) < 0.01
    columns = np.arange(64) % 2
    faults = {
        "level": x + 0.2,
        "spread": 1.5 * x,
        "skewness": np.where(rng.random(x.shape) < 0.1, x + 3, x),
        "kurtosis": np.where(rng.random(x.shape) < 0.1, 2.5 * x, x),
        "high_tail": np.where(few, 5.0, x),
        "sharp_tail": np.where(few, 9.0, x),
        "corr_x": gaussian_filter(x, (0, 0.6)),
        "corr_y": gaussian_filter(x, (0.6, 0)),
        "corr_x2": gaussian_filter(x, (0, 1.2)),
        "corr_y2": gaussian_filter(x, (1.2, 0)),
        "corr_xy": gaussian_filter(x, 0.8),
        "row_power": x + 0.5 * rng.standard_normal((64, 1)),
        "column_power": x + 0.5 * rng.standard_normal((1, 64)),
        "odd_even_x": x + 0.4 * columns,
        "odd_even_y": x + 0.4 * columns[:, None],
        "power_4": gaussian_filter(x, 2),
        "power_16": x + 2 * gaussian_filter(white(5), 8) / gaussian_filter(white(5), 8).std(),
    }
    for name, faulty in faults.items():
        plain = [measured(white(seed), name) for seed in range(10)]
        assert measured(faulty, name) > max(plain), name
    assert measured(np.where(few, -5.0, x), "low_tail") > measured(x, "low_tail")


def test_objects_and_gaps_are_left_out():
    x = white()
    good = GOOD.copy()
    good[20:30, 20:30] = False
    spoilt = np.where(good, x, 1e6)
    assert np.allclose(
        patch_statistics(spoilt.astype(np.float32), good), patch_statistics(x, good), equal_nan=True
    )


def frame(seed=0, size=200):
    """White noise on a sky with a star."""
    data = 1000 + 10 * white(seed, (size, size))
    data[100:104, 100:104] += 5000
    return data


def test_the_unit_does_not_matter():
    data = frame().astype(np.float64)
    sky, same = blank_sky(data), blank_sky(1e-18 * data + 3e-15)
    assert np.allclose(sky.statistics(), same.statistics(), atol=0.01, equal_nan=True)
    assert 5 <= len(sky.table) <= 9


def test_bad_pixels_are_left_out():
    data, mask = frame(), np.zeros((200, 200), bool)
    clean = blank_sky(data).statistics()
    data[:, 30:40] = np.nan
    mask[50:60] = True
    data[mask] = 1e9
    assert np.allclose(blank_sky(data, mask).statistics(), clean, atol=0.3, equal_nan=True)


def test_quantisation_is_seen():
    column = list(STATISTICS).index("quantisation")
    assert blank_sky(np.rint(frame() / 5) * 5).statistics()[column] == pytest.approx(
        np.log10(0.5), abs=0.03
    )
    assert blank_sky(frame()).statistics()[column] == pytest.approx(
        np.log10(realism.LEAST_FRACTION)
    )


def test_without_blank_sky_there_is_no_verdict():
    data = gaussian_filter(white(0, (128, 128)), 3) ** 2 * 1e4 + white(1, (128, 128))
    sky = BlankSky(blank_sky(data).table[:0], 0.0)
    assert np.isnan(sky.statistics()).all()


def test_constant_frames_are_refused():
    with pytest.raises(ValueError, match="constant"):
        blank_sky(np.ones((128, 128), np.float32))


@pytest.fixture(scope="module")
def simulated():
    return list(simulated_skies(24, seed=1, shape=(192, 192)))


def test_simulated_skies_are_repeatable(simulated):
    again = next(simulated_skies(1, seed=1, shape=(192, 192)))
    assert np.array_equal(again.table, simulated[0].table)
    assert all(len(sky.table) for sky in simulated)
    assert not np.array_equal(simulated[0].statistics(), simulated[1].statistics())


def test_most_simulated_skies_are_inside(simulated):
    outside = [len(judge(sky, simulated).outside) for sky in simulated]
    # With 24 scenes the extremes of each of the 23 statistics are outside.
    assert np.mean(outside) < 0.15 * len(STATISTICS)


def test_a_strange_frame_is_outside(simulated):
    tiled = frame() + 15.0 * (np.indices((200, 200)).sum(axis=0) % 2)
    outside = judge(blank_sky(tiled), simulated).outside
    assert outside["corr_x"] == outside["corr_y"] == "below"
    text = realism.report({"tiled.fits": judge(blank_sky(tiled), simulated)})
    assert "tiled.fits: " in text
    assert "corr_x " in text
    assert text.endswith("0 of 1 frames are like the training sky")


def test_small_frames_are_compared_with_as_few_patches(simulated):
    few = judge(BlankSky(simulated[0].table[:2], 0.0), simulated)
    assert np.isnan(few.values[list(STATISTICS).index("rms_scatter")])
    assert "rms_scatter" not in few.outside


def test_the_command(tmp_path, capsys, monkeypatch, simulated):
    monkeypatch.setattr(realism, "simulated_skies", lambda count, **_: iter(simulated[:count]))
    plain, strange, blank = (tmp_path / name for name in ("plain.fits", "strange.fits", "no.fits"))
    main(["--shape", "192", "--output-dir", str(tmp_path), "--name", "plain", "--quiet"])
    fits.PrimaryHDU(frame() + 15.0 * (np.indices((200, 200)).sum(axis=0) % 2)).writeto(strange)
    fits.PrimaryHDU(np.ones((200, 200))).writeto(blank)
    assert main(["--realism", str(strange), "--count", "24"]) == 1
    assert f"{strange}: " in capsys.readouterr().out
    assert main(["--realism", str(plain), str(blank), "--count", "24"]) == 1
    out, err = capsys.readouterr()
    assert f"{plain}: " in out
    assert err == f"bgrem-simulate: {blank}: the image is constant\n"
    monkeypatch.setattr(realism, "WINDOW", (0.0, 1.0))
    wide = [
        BlankSky(sky.table + shift, step)
        for sky, shift, step in zip(simulated, 9 * [9.0, -9.0], 9 * [0.0, 9.0], strict=False)
    ]
    monkeypatch.setattr(realism, "simulated_skies", lambda count, **_: iter(wide))
    assert main(["--realism", str(plain)]) == 0
