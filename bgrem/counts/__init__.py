"""Counts maps of gamma rays and X-rays: recognised, and separated with Poisson statistics."""
