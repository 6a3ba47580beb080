"""What is a map of counts, and what is not."""

import os
from pathlib import Path

import numpy as np
import pytest

from bgrem.counts.whole_numbers import is_counts_map, why_no_counts

DATA = Path(os.environ.get("BGREM_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("level", [0.03, 0.3, 3, 30, 300, 950])
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint16])
def test_poisson_maps_are_counts(level, dtype):
    assert is_counts_map(rng().poisson(level, (120, 150)).astype(dtype))


def test_sources_gaps_and_chips_are_counts():
    y, x = np.indices((200, 200))
    level = 0.05 + 0.2 * (x > 90) + 400 * np.exp(-((x - 50) ** 2 + (y - 60) ** 2) / 4)
    level[:, 130:140] = 0
    assert is_counts_map(rng().poisson(level))
    cube = rng().poisson(0.02, (28, 80, 80))
    assert is_counts_map(cube)
    with_nan = rng().poisson(2.0, (64, 64)).astype(np.float32)
    with_nan[:4] = np.nan
    assert is_counts_map(with_nan)


def camera_frame(gain, read_noise, bias, sky=300.0):
    electrons = rng().poisson(sky, (256, 256)) + rng().normal(0, read_noise, (256, 256))
    return np.rint(electrons / gain + bias).astype(np.uint16)


@pytest.mark.parametrize(
    ("gain", "read_noise", "bias"),
    [(2.2, 9, 0), (1.0, 9, 1000), (0.3, 2, 0), (1.0, 5, 100), (4, 3, 50)],
)
def test_frames_of_cameras_are_not(gain, read_noise, bias):
    assert not is_counts_map(camera_frame(gain, read_noise, bias))


def test_other_whole_numbers_are_not():
    flags = (rng().random((200, 200)) < 0.01).astype(np.int32)
    assert not is_counts_map(flags)
    assert not is_counts_map(64 * flags)
    assert not is_counts_map(np.ones((100, 100), int))
    assert not is_counts_map(np.indices((100, 100))[0])
    assert not is_counts_map(rng().poisson(3.0, (100, 100)) - 1)
    assert not is_counts_map(rng().poisson(3.0, (100, 100)) / 2.0)
    assert not is_counts_map(rng().integers(0, 255, (100, 100)).astype(np.uint8))


def test_very_few_counts_must_say_so():
    few = (rng().random((200, 200)) < 0.002).astype(np.int16)
    assert not is_counts_map(few) and is_counts_map(few, unit="counts")


def test_reasons():
    counts = rng().poisson(3.0, (40, 40))
    assert why_no_counts(counts) is None
    assert "background was subtracted" in why_no_counts(counts - 2)
    assert "exposure" in why_no_counts(counts * 0.3)


@pytest.mark.skipif(not (DATA / "counts").is_dir(), reason="no real images")
def test_real_images():
    from bgrem.io.reading import FitsError, read_image

    found = {}
    for folder in ("counts", "optical"):
        for path in sorted((DATA / folder).iterdir()):
            try:
                image = read_image(path)
            except (FitsError, OSError):
                continue
            if is_counts_map(image.data, str(image.header.get("BUNIT", ""))):
                found.setdefault(folder, []).append(path.name)
    assert len(found["counts"]) == 5 and "optical" not in found


@pytest.mark.parametrize("unit", ["electron", "ADU", "e-", "DN"])
def test_what_is_in_units_of_a_camera_is_not(unit):
    assert not is_counts_map(rng().poisson(300.0, (100, 100)), unit)
