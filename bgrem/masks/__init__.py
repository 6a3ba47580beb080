"""Which pixels are bad, saturated or without data."""
