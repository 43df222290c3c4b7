"""Keeps encoders from taking the machine for themselves."""

import os
from contextlib import suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


def leave_real_time() -> None:
    """Give every thread of this process its usual share of the processor again, where the caller's was raised.

    SVT-AV1, run as root, makes its threads and the one that opens it real-time threads of the highest priority. These,
    and all processes that are started from them, come before everything else on the machine.
    """
    real_time = {getattr(os, name, None) for name in ("SCHED_FIFO", "SCHED_RR")}
    if not _THREADS.is_dir() or os.sched_getscheduler(0) not in real_time:
        return
    for thread in _THREADS.iterdir():
        # A thread may have ended since it was listed.
        with suppress(ProcessLookupError, PermissionError):
            if os.sched_getscheduler(int(thread.name)) in real_time:
                os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
