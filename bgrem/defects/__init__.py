"""The defects of a camera: pixels, columns and rows that stand out in all frames of one detector."""
