"""Commands that measure: see README.md."""

import os

# As `vsr` itself does, and before torch is loaded: threads that spin while they wait make every
# figure of time wrong.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
