"""Network definitions and nothing else, one file per family."""
