"""Counts maps with known truth, and the training and evaluation of models on them."""
