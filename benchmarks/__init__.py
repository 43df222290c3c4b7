"""Commands that measure: see README.md."""
