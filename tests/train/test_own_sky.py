"""Skies made of frames that have no truth: what is taken of them, and what is not."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

torch = pytest.importorskip("torch")
pytest.importorskip("galsim")

from bgrem.cli.train import main
from bgrem.detection.psf import psf_fwhm, sharper_than_stars
from bgrem.simulate import Scene, draw, draw_psf
from bgrem.simulate.optics import PHASES
from bgrem.simulate.scene import DEFECT_BIT, GAP_BIT
from bgrem.train.config import TrainingConfig, fine_tuning_config
from bgrem.train.own_sky import (
    OwnSkies,
    draw_own,
    make_own_sky,
    read_own_sky,
    skies_of,
    training_rows,
)  # fmt: skip
from bgrem.train.parents import make_parent, simulated_sky

SCENE = Scene(
    shape=(320, 352), fwhm=3.2, stars=2500.0, galaxies=300.0, large_galaxies=0.0, discs=0.0,
    hot_pixels=200.0, quantisation=0.0, correlation=0.5, sky=400.0, gain=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def frame():
    return draw(SCENE, np.random.default_rng(5))


@pytest.fixture(scope="module")
def own(frame):
    return make_own_sky(frame.data, gain=1.0)


@pytest.fixture(scope="module")
def fits_frame(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "frame.fits"
    fits.writeto(path, frame.data, fits.Header({"GAIN": 1.0}))
    return str(path)


def test_the_noise_is_the_frames_own_mirrored(frame, own):
    true = (frame.noise / np.median(frame.rms))[own.sky & ~own.defect]
    taken = own.noise[own.sky & ~own.defect]
    assert np.corrcoef(true, taken)[0, 1] < -0.9
    assert np.std(taken) == pytest.approx(np.std(true), rel=0.1)


def test_the_noise_is_correlated_as_in_the_frame(own):
    sky = draw_own(own, np.random.default_rng(3), 320)
    quiet = (sky.sources < 0.1) & (sky.mask == 0)
    drawn = correlation_along_x(sky.noise, quiet)
    assert drawn == pytest.approx(correlation_along_x(own.noise, own.sky & ~own.defect), abs=0.05)
    assert drawn > 0.15


def correlation_along_x(noise, where):
    both = where[:, 1:] & where[:, :-1]
    return np.corrcoef(noise[:, 1:][both], noise[:, :-1][both])[0, 1]


def test_no_source_is_left_in_the_noise(frame, own):
    """At the places of the frame's stars the drawn skies hold noise, not light."""
    bright = frame.truth[frame.truth["snr"] > 15]
    x, y = (np.rint(bright[name]).astype(int) for name in ("x", "y"))
    inside = (x >= 0) & (y >= 0) & (x < 320) & (y < 320)
    assert inside.sum() > 20
    held = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        sky = draw_own(own, rng, 320)
        left = next(
            k
            for k in range(33)
            if np.array_equal(sky.background, own.background[:320, k : k + 320])
        )
        within = inside & (x >= left) & (x < left + 320)
        at = y[within], x[within] - left
        quiet = (sky.sources[at] < 0.3) & (sky.mask[at] == 0)
        held.append(sky.noise[at][quiet])
    held = np.concatenate(held)
    assert held.size > 50
    assert abs(np.mean(held)) < 0.4 and np.abs(held).max() < 6


def test_drawn_skies_add_up_and_tell_their_truth(own):
    sky = draw_own(own, np.random.default_rng(1), 512)
    assert sky.data.shape == (320, 320)  # the frame has no more
    np.testing.assert_allclose(sky.sources + sky.background + sky.noise, sky.data, atol=1e-3)
    faint = sky.truth[sky.truth["snr"] > 20]
    assert faint.size > 3
    assert sky.sources.sum() == pytest.approx(sky.truth["flux"].sum(), rel=0.3)


def test_the_psf_is_that_of_the_frame(frame, own):
    image = np.asarray(frame.psf.image, np.float64)
    assert psf_fwhm(np.asarray(own.psf.image, np.float64)) == pytest.approx(
        psf_fwhm(image), rel=0.1
    )
    whole = own.psf.fine.sum() / 25 + own.psf.wings.sum()
    assert whole == pytest.approx(1, abs=1e-3)


def test_the_seed_decides_and_every_seed_is_another(own):
    first, again, other = (draw_own(own, np.random.default_rng(s), 192).data for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_bad_pixels_stay_bad(frame):
    data = frame.data.copy()
    data[100:140, 50:90] = np.nan
    own = make_own_sky(data, gain=1.0)
    assert np.isfinite(own.noise).all() and own.bad.sum() == 1600
    sky = draw_own(own, np.random.default_rng(2), 320)
    assert np.count_nonzero(sky.mask & GAP_BIT) > 0 and np.isfinite(sky.data).all()
    assert not sky.sources[sky.mask & GAP_BIT > 0].any()


def test_defects_keep_their_sign_and_are_labelled(own):
    assert own.defect.any()
    sky = draw_own(own, np.random.default_rng(4), 320)
    hit = sky.mask & DEFECT_BIT > 0
    assert hit.any() and np.median(sky.noise[hit]) > 3


def test_a_parent_is_made_of_it(own):
    parent = make_parent(
        draw_own(own, np.random.default_rng(0), 320), np.random.default_rng(1), box=64
    )
    quiet = parent.x[parent.sources < 0.05]
    assert np.diff(np.percentile(quiet, [15.9, 84.1]))[0] / 2 == pytest.approx(1, abs=0.15)
    assert (parent.centre == 1).any()


def test_a_share_of_the_skies_is_simulated(fits_frame):
    skies = OwnSkies((fits_frame,), share=0.5)
    sides = {skies(np.random.default_rng(seed), 384).data.shape[0] for seed in range(8)}
    assert sides == {320, 384}


def test_without_frames_skies_are_simulated():
    assert skies_of(TrainingConfig()) is simulated_sky
    skies = skies_of(TrainingConfig(frames=("a.fits",), own=0.3))
    assert (skies.paths, skies.share) == (("a.fits",), 0.3)


def test_the_digest_does_not_depend_on_frames():
    plain = TrainingConfig()
    assert plain.digest == TrainingConfig(own=0.2).digest
    assert plain.digest != TrainingConfig(frames=("a.fits",)).digest


def test_fine_tuning_starts_from_the_shipped_weights():
    config = fine_tuning_config(["a.fits"], name="mine")
    assert config.start.endswith("optical.safetensors") and config.name == "mine"
    assert config.frames[0].endswith("/a.fits") and 0 < config.own < 1
    assert config.judged == config.frames[0]


def test_the_last_of_several_frames_is_kept_apart():
    config = fine_tuning_config(["a.fits", "b.fits", "c.fits"])
    assert [path[-6:] for path in config.frames] == ["a.fits", "b.fits"]
    assert config.judged.endswith("/c.fits")


def test_of_a_single_frame_the_last_rows_are_kept_apart(fits_frame):
    whole, apart = (read_own_sky(fits_frame, apart=apart) for apart in (False, True))
    assert training_rows(len(whole.noise)) == len(apart.noise) == len(whole.noise) * 3 // 4


def test_unusable_frames_are_refused_in_one_sentence(tmp_path, capsys):
    path = tmp_path / "small.fits"
    fits.writeto(path, np.random.default_rng(0).normal(size=(100, 300)).astype("f4"))
    code = main(["--from-fits", str(path), "--output-dir", str(tmp_path / "out")])
    err = capsys.readouterr().err
    assert code == 1 and err.count("\n") == 1 and "small.fits" in err and "192" in err
    noise = np.random.default_rng(0).normal(1000, 10, (256, 256))
    with pytest.raises(ValueError, match="few"):
        make_own_sky(noise)
    holes = np.where(np.arange(256) < 150, np.nan, noise)
    cases = {"few": noise, "bad": holes, "output": noise, "mosaic": noise}
    cards = {"output": {"BGR_VERS": "1"}, "mosaic": {"BAYERPAT": "RGGB"}}
    for word, data in cases.items():
        path = tmp_path / f"{word}.fits"
        fits.writeto(path, data.astype("f4"), fits.Header(cards.get(word, {})))
        assert main(["--from-fits", str(path), "--output-dir", str(tmp_path / "out")]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and str(path) in err and word in err


def test_a_drawn_sky_is_quantised_as_its_frame():
    scene = replace(SCENE, quantisation=0.4, sky=30.0, read_noise=2.0)
    frame = draw(scene, np.random.default_rng(6))
    whole = np.rint(frame.data + np.linspace(0, 20, 352, dtype=np.float32))
    own = make_own_sky(whole, gain=1.0)
    assert own.step > 0.1
    sky = draw_own(own, np.random.default_rng(0), 320)
    steps = sky.data / own.step
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-2)


def test_of_many_frames_some_are_taken():
    many = [f"{i}.fits" for i in range(100)]
    assert 8 <= len(fine_tuning_config(many).frames) <= 16
    assert len(fine_tuning_config(many[:17]).frames) == 16


@pytest.mark.parametrize("fwhm", [1.5, 2.2, 3.0])
def test_what_is_sharper_than_stars(fwhm):
    rng = np.random.default_rng(5)
    image = rng.normal(size=(400, 400)).astype(np.float32)
    defects = rng.integers(10, 390, (60, 2))
    image[tuple(defects.T)] += rng.uniform(10, 40, 60)
    stars = rng.uniform(10, 390, (60, 2))
    psf = draw_psf(fwhm=fwhm, beta=3.0)
    for row, column in stars:
        place = np.rint(PHASES * np.array([[column], [row]])).astype(np.int64)
        psf.place(image, *place, np.array([10 ** rng.uniform(1.5, 3.5)]))
    found = sharper_than_stars(image, psf.image)
    near = np.zeros_like(found)
    for row, column in np.rint(stars).astype(int):
        near[row - 2 : row + 3, column - 2 : column + 3] = True
    alone = [tuple(place) for place in defects if not near[tuple(place)]]
    assert np.mean([found[place] for place in alone]) > 0.9
    assert np.count_nonzero(found & near) < 4
    assert np.count_nonzero(found) < len(alone) + 8


def test_usage(capsys, tmp_path):
    for words in (
        [],
        ["a.toml", "--from-fits", "b.fits"],
        ["a.toml", "--name", "b"],
        ["--from-fits", "b.fits", "--name", "a/b"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--output-dir", str(tmp_path)])
        assert stop.value.code == 2
    capsys.readouterr()


def tuned(fits_frame, folder, monkeypatch, *, found):
    """The exit code of a short training; `found` are the sources that the new and the shipped model find."""
    from bgrem.train import config as training_config
    from bgrem.train import validate

    short = training_config.FINE_TUNING | {
        "steps": 2, "warmup": 1, "decay": 1, "batch": 2, "window": 1, "parent": 192,
        "inference": {"tile": 256, "overlap": 64, "box": 96, "calibration": 0},
    }  # fmt: skip
    monkeypatch.setattr(training_config, "FINE_TUNING", short)
    counted = dict(zip(("new", "optical"), found, strict=True)), 9
    monkeypatch.setattr(validate, "found_by_models", lambda *_, **__: counted)
    words = ["--from-fits", fits_frame, "--output-dir", folder, "--name", "tuned", "--workers", 0]
    words += ["--validate-every", 2, "--threads", 1, "--device", "cpu", "--report-every", 1]
    return main([*map(str, words), "--quiet"])


@pytest.mark.usefixtures("one_thread")
def test_the_command_writes_a_model_that_runs(fits_frame, tmp_path, monkeypatch):
    from bgrem.background import separate

    folder = tmp_path / "mine"
    assert tuned(fits_frame, folder, monkeypatch, found=(5, 4)) == 0
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "ratio" in line] == [0, 2]
    data = fits.getdata(fits_frame)
    parts = separate(data, model=str(folder / "tuned.onnx"))
    assert parts.provenance["model"] == "tuned"
    shipped = separate(data)
    assert np.abs(parts.sources - shipped.sources).max() > 0
    assert np.corrcoef(parts.sources.ravel(), shipped.sources.ravel())[0, 1] > 0.95


@pytest.mark.usefixtures("one_thread")
def test_a_model_that_is_not_better_is_not_written(fits_frame, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "mine"
    assert tuned(fits_frame, folder, monkeypatch, found=(4, 4)) == 1
    assert not list(folder.glob("*.onnx")) and not list(folder.glob("*.safetensors"))
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "not better" in err and "of 9 sources" in err


def test_models_are_judged_in_the_rows_kept_apart(fits_frame, monkeypatch):
    """The shipped model is as good as itself, which is not better."""
    from bgrem.inference.model import load_model
    from bgrem.train.validate import check_is_better

    config = fine_tuning_config([fits_frame])
    with pytest.raises(ValueError, match="not better") as caught:
        check_is_better(load_model("optical"), config)
    scored, new, old = (
        int(n) for n in re.findall(r"\b\d+\b", str(caught.value).split("of ", 1)[1])[:3]
    )
    assert new == old and 5 < new <= scored
