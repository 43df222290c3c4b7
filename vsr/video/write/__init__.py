"""Clips out: encoders, segments, containers, copied streams."""
