"""Draw the pictures of the documentation from the bundled sample frame, and simulated ones with wide light and of counts.

python docs/draw_pictures.py
"""

from pathlib import Path

import numpy as np
from astropy.io import fits
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from bgrem import separate, separate_counts
from bgrem.counts_scenes.counts_files import counts_scene, draw_numbered_counts
from bgrem.simulate import draw_whole_frame

DOCS = Path(__file__).resolve().parent
SAMPLE = DOCS.parent / "examples" / "meerlicht_sample.fits.fz"
CORNER = (slice(160, 460), slice(60, 360))  # a galaxy, stars, cosmic rays
BLACK, WHITE = -3.0, 40.0  # sky rms
#: Seeds of simulated frames: a galaxy on a slope, a nebula, a group of galaxies.
WIDE_LIGHT, SIDE = (72, 88, 69), 448
COUNTS_SEED = 4  # of a simulated patch of the Fermi-LAT


def main():
    """Write before_after.png, background.png, noise.png, wide_light.png and counts.png."""
    data = fits.getdata(SAMPLE)
    parts = separate(data, maps=())
    level, rms = parts.provenance["level"], parts.provenance["rms"]
    draw_pair((data[CORNER] - level) / rms, parts.sources[CORNER] / rms)
    save("noise", stretched(parts.noise[CORNER] / rms)[::-1])  # row 0 is at the bottom
    background = (parts.background[CORNER] - level) / rms
    save("background", np.clip((background + 3) / 6, 0, 1)[::-1])
    draw_wide_light()
    draw_counts_map()


def draw_pair(before, after):
    """Draw the image and its sources side by side, one screen pixel for each pixel."""
    ny, nx = before.shape
    figure = Figure(figsize=(2 * nx / 100 + 0.1, ny / 100 + 0.25), dpi=100)
    size = figure.get_size_inches()
    for number, (picture, title) in enumerate([(before, "image"), (after, "sources")]):
        left = number * (nx / 100 + 0.1)
        place = (left / size[0], 0, nx / 100 / size[0], ny / 100 / size[1])
        axes = figure.add_axes(place)
        axes.imshow(stretched(picture), cmap="gray", vmin=0, vmax=1, origin="lower")
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, pad=4)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    save("before_after", np.asarray(canvas.buffer_rgba())[:, :, 0] / 255)


def draw_wide_light():
    """Draw frames with wide light: the image, two backgrounds, and the sources, with one stretch."""
    columns = ("image", "background, --sky mesh", "background", "sources")
    figure = Figure(figsize=(8.4, 6.4), dpi=100)
    axes = figure.subplots(len(WIDE_LIGHT), len(columns))
    for place, title in zip(axes[0], columns, strict=True):
        place.set_title(title, fontsize=10, pad=4)
    for row, seed in zip(axes, WIDE_LIGHT, strict=True):
        data = draw_whole_frame(np.random.default_rng(seed), (SIDE, SIDE)).data
        parts, mesh = (separate(data, maps=(), sky=sky) for sky in ("network", "mesh"))
        level, rms = parts.provenance["level"], parts.provenance["rms"]
        pictures = (data - level, mesh.background - level, parts.background - level, parts.sources)
        for place, picture in zip(row, pictures, strict=True):
            place.imshow(stretched(picture / rms), cmap="gray", vmin=0, vmax=1, origin="lower")
            place.set_axis_off()
    figure.subplots_adjust(left=0, right=1, bottom=0, top=0.96, wspace=0.02, hspace=0.02)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    save("wide_light", np.asarray(canvas.buffer_rgba())[:, :, 0] / 255)


def draw_counts_map():
    """Draw a simulated counts map: counts, sources and background with a square-root stretch, and SIGNIF."""
    scene = counts_scene(
        "fermi", level=1.0, density=30.0, plane=0.9, plane_height=12.0, plane_angle=0.3
    )
    sky = draw_numbered_counts(scene, seed=COUNTS_SEED, number=0)
    known = {"exposure": sky.exposure[0], "template": sky.template[0], "psf": sky.psf[0]}
    parts = separate_counts(sky.counts[0], **known)
    titles = ("counts", "sources", "background", "SIGNIF")
    pictures = [np.sqrt(part) for part in (sky.counts[0], parts.sources, parts.background)]
    figure = Figure(figsize=(8.4, 2.3), dpi=100)
    for axes, title, picture in zip(
        figure.subplots(1, 4), titles, [*pictures, parts.significance], strict=True
    ):
        low, high = np.percentile(picture, (1, 99.8)) if title == "SIGNIF" else (0, None)
        axes.imshow(picture, cmap="gray", vmin=low, vmax=high, origin="lower")
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, pad=4)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=0.9, wspace=0.02)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    save("counts", np.asarray(canvas.buffer_rgba())[:, :, 0] / 255)


def stretched(picture):
    """An asinh stretch from BLACK to WHITE, as numbers from 0 to 1."""
    low, high = np.arcsinh([BLACK, WHITE])
    return np.clip((np.arcsinh(picture) - low) / (high - low), 0, 1)


def save(name, picture):
    """Write numbers from 0 to 1 as a grey picture."""
    grey = np.rint(255 * picture).astype(np.uint8)
    Image.fromarray(grey).save(DOCS / "pictures" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
