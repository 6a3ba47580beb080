"""Counts maps among other files: batches, all HDUs of a file, other tables, and commands that need another model."""

import numpy as np
import pytest
from astropy.io import fits

from bgrem.cli.bgrem import main
from bgrem.cli.evaluate import main as evaluate_main
from bgrem.processing.batch import process_batch
from bgrem.processing.files import process_file


@pytest.fixture(autouse=True)
def folder(counts_file, monkeypatch, tmp_path):
    """The untrained network is the model "counts" here."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "counts.onnx").write_bytes(counts_file.read_bytes())
    monkeypatch.setenv("BGREM_MODELS", str(models))
    return tmp_path


def counts_of(shape=(48, 64), dtype=np.int32, level=0.7, seed=1):
    return np.random.default_rng(seed).poisson(level, shape).astype(dtype)


def frame(shape=(48, 64)):
    """A sky of a camera: 1000 adu with a noise of 10."""
    return np.random.default_rng(2).normal(1000, 10, shape).astype(np.float32)


def observation(path, data):
    """A cube of counts as the tools of Fermi write it, with energies and good time intervals."""
    low = 1000.0 * 2.0 ** np.arange(len(data))
    energies = [
        fits.Column(n, "D", unit="keV", array=e) for n, e in (("E_MIN", low), ("E_MAX", 2 * low))
    ]
    times = [fits.Column(n, "D", unit="s", array=[1.0, 5.0]) for n in ("START", "STOP")]
    primary = fits.PrimaryHDU(data)
    cards = {
        "CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CTYPE3": "Energy", "CRPIX3": 1, "CRVAL3": 1.0,
        "CDELT1": -0.1, "CDELT2": 0.1, "CDELT3": 1.0, "CUNIT3": "MeV", "TELESCOP": "GLAST",
    }  # fmt: skip
    primary.header.update(cards)
    tables = [
        fits.BinTableHDU.from_columns(columns, name=name)
        for columns, name in ((energies, "EBOUNDS"), (times, "GTI"))
    ]
    fits.HDUList([primary, *tables]).writeto(path)
    return path


def cards_of(header):
    return {key: header[key] for key in header if key and not key.startswith(("BGR_", "HISTORY"))}


def test_tables_and_axes_are_kept(folder):
    path = observation(folder / "cube.fits", counts_of((3, 48, 64)))
    result = process_file(path, save=["background", "significance"], psf="2.5")
    assert result.model == "toy"
    with fits.open(path) as before, fits.open(result.output) as after:
        assert [hdu.name for hdu in after[:3]] == ["PRIMARY", "EBOUNDS", "GTI"]
        for name in ("EBOUNDS", "GTI"):
            assert after[name].data.tobytes() == before[name].data.tobytes()
            assert str(after[name].header) == str(before[name].header)
        kept = cards_of(before[0].header)
        changed = {k for k, v in kept.items() if after[0].header.get(k, None) != v}
        assert changed <= {"BITPIX", "CHECKSUM", "DATASUM"}
        assert after["SIGNIF"].header["CTYPE3"] == "Energy"
        assert np.array_equal(after["SIGNIF"].data[0], after["SIGNIF"].data[2])
        total = after[0].data.sum((1, 2)) + after["BACKGROUND"].data.sum((1, 2))
        assert np.allclose(total, before[0].data.sum((1, 2)), rtol=1e-4)


@pytest.mark.parametrize("workers", [None, 2])
def test_counts_and_frames_in_one_batch(folder, workers, capsys):
    fits.PrimaryHDU(counts_of()).writeto(folder / "photons.fits")
    fits.PrimaryHDU(frame()).writeto(folder / "camera.fits")
    more = [] if workers is None else ["--workers", str(workers)]
    paths = [str(folder / f"{name}.fits") for name in ("photons", "camera")]
    assert main(["-f", *paths, *more]) == 0
    said = capsys.readouterr()
    assert said.err.count("the model counts is used") == 1
    models = {
        n: fits.getheader(folder / f"BGRem_{n}.fits")["BGR_MODL"] for n in ("photons", "camera")
    }
    assert models == {"photons": "toy", "camera": "optical"}


def test_a_batch_is_done_again_with_another_model(folder, counts_file, counts_model):
    from bgrem.train.export import write_metadata

    path = folder / "photons.fits"
    fits.PrimaryHDU(counts_of()).writeto(path)
    first = [*process_batch(path, model=counts_model), *process_batch(path, model=counts_model)]
    assert [result.resumed for result in first] == [False, True]
    mine = folder / "mine.onnx"
    mine.write_bytes(counts_file.read_bytes())
    (done,) = process_batch(path, model=mine, overwrite=True)
    assert done.model == "toy"
    write_metadata(mine, {"name": "mine"})
    (again,) = process_batch(path, model=mine, overwrite=True)
    assert not again.resumed and again.model == "mine"


def test_all_hdus(folder):
    path = folder / "both.fits"
    pictures = {"SCI": np.rint(frame()).astype(np.int32), "CT": counts_of((50, 66))}
    hdus = [fits.ImageHDU(pixels, name=name) for name, pixels in pictures.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    result = process_file(path, hdu="all")
    headers = [fits.getheader(result.output, name) for name in ("SCI", "CT")]
    assert [header["BGR_MODL"] for header in headers] == ["optical", "toy"]


def test_maps_given_beside_the_image_are_read(folder):
    path = observation(folder / "cube.fits", counts_of((2, 48, 64), level=3.0))
    exposure = np.ones((48, 64), np.float32)
    exposure[:, :20] = 0
    with fits.open(path, mode="append") as hdus:
        hdus.append(fits.ImageHDU(exposure, name="EXPO"))
        hdus.append(fits.ImageHDU(1 + exposure, name="MODEL"))
    result = process_file(
        path, exposure="EXPO", template=f"{path}[MODEL]", psf=2.0, save=["background"]
    )
    background = fits.getdata(result.output, "BACKGROUND")
    assert not background[:, :, :20].any() and background[:, :, 20:].all()
    given = process_file(
        path, exposure=exposure, template=1 + exposure, psf=2.0, save=["background"], prefix="arrays_"
    )  # fmt: skip
    assert np.array_equal(fits.getdata(given.output, "BACKGROUND"), background)


def test_evaluation_of_frames_needs_another_model(folder, capsys):
    assert evaluate_main(["--simulate", "1", "--model", "counts"]) != 0
    assert "is for maps of counts" in capsys.readouterr().err


def test_memory_is_refused_in_a_sentence(folder, capsys):
    path = folder / "large.fits"
    fits.PrimaryHDU(counts_of((1500, 1500), np.uint8)).writeto(path)
    assert main(["-f", str(path), "--memory", "400MB"]) == 1
    said = capsys.readouterr().err
    assert "--memory" in said and "Traceback" not in said
