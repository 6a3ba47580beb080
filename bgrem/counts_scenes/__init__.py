"""Simulated counts maps of gamma rays and X-rays, with exact truth."""
