"""Per-frame upscalers from a file: anything that spandrel recognizes, and the networks that `vsr
train` makes."""
