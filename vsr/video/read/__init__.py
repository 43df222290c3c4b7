"""Clips in: containers, decoding, timestamps, damage."""
