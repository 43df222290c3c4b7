"""Contestants in processes of their own, which take turns: what disturbs one round disturbs all of
them."""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median

import torch


@dataclass(frozen=True)
class Contestant:
    """What is measured."""

    make: Callable[..., Callable[[], object]]
    """A function of a module; called once, in the contestant's process, it gives what a round
    calls."""
    arguments: tuple = ()
    threads: int = 1
    keeps_memory: bool = True
    """As `vsr` sets the allocator; a baseline has it as it comes."""


@dataclass(frozen=True)
class Cost:
    """Medians over the rounds, in seconds."""

    cpu: float
    wall: float


def race(contestants: dict[str, Contestant], rounds: int) -> dict[str, Cost]:
    """One uncounted round, then `rounds` in which each has its turn."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        ends = {}
        for name, contestant in contestants.items():
            ends[name], theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, contestant), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(ends[name].send, False)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for number in range(rounds + 1):
            for name, end in ends.items():
                end.send(True)
                cost = end.recv()
                if number:
                    taken[name].append(cost)
    return {
        name: Cost(median(cpu for cpu, _ in costs), median(wall for _, wall in costs))
        for name, costs in taken.items()
    }


def _serve(end: Connection, contestant: Contestant) -> None:
    if contestant.keeps_memory:
        from vsr.cli import keep_freed_memory

        keep_freed_memory()
    torch.set_num_threads(contestant.threads)
    with torch.inference_mode():
        work = contestant.make(*contestant.arguments)
        while end.recv():
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            end.send((time.process_time() - cpu, time.perf_counter() - wall))
