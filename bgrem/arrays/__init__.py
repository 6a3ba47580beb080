"""Arrays by rows, in tiles and in containers, and what is computed on them."""
