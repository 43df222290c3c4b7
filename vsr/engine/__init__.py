"""Networks run fast: folded normalization, strips that stay in cache, precision, CUDA graphs."""
