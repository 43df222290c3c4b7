"""The CPU's cores as a pool of threads that each work alone."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


@cache
def cores() -> ThreadPoolExecutor:
    """A thread for each core: torch's own threads gain nothing on strips this small."""
    return ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,))
