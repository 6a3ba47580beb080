"""The level and the noise of the sky, their error, and light that is wider than a box."""
