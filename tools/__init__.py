"""Scripts for those who work on vsr; none is shipped."""
