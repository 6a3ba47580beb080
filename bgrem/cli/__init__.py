"""The commands: they parse arguments and print; the work is done below."""
