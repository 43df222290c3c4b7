"""A run, in reading order: reader -> shots -> policy -> flicker control -> live metrics ->
writer."""

from vsr.pipeline.deflicker import steady
from vsr.pipeline.plan import RunPlan, plan
from vsr.pipeline.run import compare, output_path, run
from vsr.pipeline.stages import Upscaling, decision_summary
from vsr.progress import Listener

__all__ = [
    "Listener",
    "RunPlan",
    "Upscaling",
    "compare",
    "decision_summary",
    "output_path",
    "plan",
    "run",
    "steady",
]
