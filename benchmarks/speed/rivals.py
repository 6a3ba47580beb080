"""What else astronomers run on a frame, each from reading it to writing what it makes.

    python benchmarks/speed/rivals.py sep frame.fits out.fits

`sep`: the frame less SEP's background; `photutils`: the frame less Background2D, as its documentation
has it; `wavelets`: the frame less the background of SEP, cleaned by thresholds in the starlet
transform (`bgrem.evaluate.baselines`).
"""

import argparse

import numpy as np
from astropy.io import fits

__all__ = ["RIVALS"]

#: Box in pixels: the default of SEP and SExtractor, and that of the documentation of photutils.
SEP_BOX, PHOTUTILS_BOX = 64, 50


def subtract_sep(data):
    import sep

    return data - sep.Background(data, bw=SEP_BOX, bh=SEP_BOX).back()


def subtract_photutils(data):
    from astropy.stats import SigmaClip
    from photutils.background import Background2D, MedianBackground

    sky = Background2D(
        data, PHOTUTILS_BOX, filter_size=3, sigma_clip=SigmaClip(3.0),
        bkg_estimator=MedianBackground(),
    )  # fmt: skip
    return data - sky.background


def clean_by_wavelets(data):
    from bgrem.detection.sextractor import subtract_sky
    from bgrem.evaluate.baselines import denoise_wavelets

    sky = subtract_sky(data)
    return denoise_wavelets(sky.residual / sky.rms) * sky.rms


#: Name of each, the module that it needs, and the function of an image.
RIVALS = {
    "sep": ("sep", subtract_sep),
    "photutils": ("photutils", subtract_photutils),
    "wavelets": ("sep", clean_by_wavelets),
}


def main(argv=None):
    """Read, run and write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("name", choices=tuple(RIVALS))
    parser.add_argument("frame")
    parser.add_argument("output")
    options = parser.parse_args(argv)
    data = fits.getdata(options.frame).astype(np.float32)
    made = RIVALS[options.name][1](data)
    fits.writeto(options.output, np.asarray(made, np.float32), overwrite=True)


if __name__ == "__main__":
    main()
