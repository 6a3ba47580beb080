"""The commands: they parse arguments, call the modules that do the work, and print."""
