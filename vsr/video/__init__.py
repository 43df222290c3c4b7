"""Clips in and out: frames, color, shots, reading, writing and alignment, by PyAV."""
