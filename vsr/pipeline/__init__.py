"""A run, in reading order: reader -> shots -> policy -> flicker control -> live metrics ->
writer."""

from vsr.pipeline.plan import RunPlan, plan
from vsr.pipeline.run import compare, run, steady
from vsr.progress import Listener

__all__ = ["Listener", "RunPlan", "compare", "plan", "run", "steady"]
