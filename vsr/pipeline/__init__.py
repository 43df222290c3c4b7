"""A run, in reading order: reader -> shots -> policy -> flicker control -> live metrics -> writer."""

from vsr.pipeline.listener import Listener
from vsr.pipeline.planning import RunPlan, plan
from vsr.pipeline.running import compare, output_path, run
from vsr.pipeline.steadying import steady
from vsr.pipeline.upscaling import Upscaling, decision_words

__all__ = ["Listener", "RunPlan", "Upscaling", "compare", "decision_words", "output_path", "plan", "run", "steady"]
