"""The level and the noise of the sky, on a coarse mesh."""
