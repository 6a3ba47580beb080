"""Models: their cards, the engines that run them, and the diffusion."""
