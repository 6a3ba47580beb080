"""The path of one image behind interfaces that other packages know."""
