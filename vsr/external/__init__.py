"""External learning: networks trained on a folder of pictures, as upscalers that `vsr run --upscaler` takes."""

from vsr.external.methods import METHODS, Method
from vsr.external.options import LossOptions, TrainingOptions
from vsr.external.training import Telling, TrainingReport, train

__all__ = ["METHODS", "LossOptions", "Method", "Telling", "TrainingOptions", "TrainingReport", "train"]
