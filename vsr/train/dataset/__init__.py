"""External learning: networks trained on a folder of pictures, as upscalers that `vsr run
--upscaler` takes."""

from vsr.train.dataset.methods import METHODS, DatasetMethod
from vsr.train.dataset.options import LossOptions, TrainingOptions
from vsr.train.dataset.training import TrainingListener, TrainingReport, train

__all__ = [
    "METHODS",
    "DatasetMethod",
    "LossOptions",
    "TrainingListener",
    "TrainingOptions",
    "TrainingReport",
    "train",
]
