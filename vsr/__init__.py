"""Video super-resolution that learns from the clip itself, without flicker."""
