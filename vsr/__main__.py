"""`python -m vsr`, where the command itself is not on the path."""

from vsr.cli import main

main()
