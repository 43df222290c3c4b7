"""External learning: networks trained on a folder of pictures, as upscalers that `vsr run --upscaler` takes."""

from vsr.train.dataset.methods import METHODS, Method
from vsr.train.dataset.options import LossOptions, TrainingOptions
from vsr.train.dataset.training import Telling, TrainingReport, train

__all__ = ["METHODS", "LossOptions", "Method", "Telling", "TrainingOptions", "TrainingReport", "train"]
