"""True and false detections, and what other methods reach."""
