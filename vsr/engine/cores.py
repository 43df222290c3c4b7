"""The CPU's cores as a pool of threads that each work alone."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import torch


@cache
def cores() -> ThreadPoolExecutor:
    """A thread for each core: torch's own threads gain nothing on strips this small."""
    return ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,))


def use_threads(count: int) -> None:
    """Have all that follows use so many cores. Results do not depend on it."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    cores.cache_clear()
