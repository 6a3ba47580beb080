"""Files and batches of files."""
