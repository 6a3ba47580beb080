"""Peaks, the point-spread function and the photometry of sources."""
