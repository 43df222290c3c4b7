"""Training on a folder of pictures, for networks that `vsr run --upscaler` takes."""

from vsr.train.dataset.methods import METHODS, DatasetMethod
from vsr.train.dataset.options import LossOptions, TrainingOptions
from vsr.train.dataset.outputs import DatasetReport
from vsr.train.dataset.training import train
from vsr.train.fit import TrainingListener

__all__ = [
    "METHODS",
    "DatasetMethod",
    "DatasetReport",
    "LossOptions",
    "TrainingListener",
    "TrainingOptions",
    "train",
]
