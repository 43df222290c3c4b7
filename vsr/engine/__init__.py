"""Runs generators fast: folded normalisation, strips that stay in cache, the device."""
