"""The network and what surrounds it, in PyTorch."""
