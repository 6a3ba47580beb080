"""FITS files: read, written again and restored."""
