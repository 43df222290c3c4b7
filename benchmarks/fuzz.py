"""Damaged clips, models and recipes by the thousand: no traceback, no hang, no silent loss, no
memory beyond a bound.

    python -m benchmarks.fuzz clips --count 5000 --state clips.json
    python -m benchmarks.fuzz models --count 1000 --state models.json
    python -m benchmarks.fuzz upscalers --count 1000 --state upscalers.json
    python -m benchmarks.fuzz recipes --count 1000 --state recipes.json

Each case is `vsr run` in a process of its own, forked from one in which everything is loaded. A
case that fails is kept beside the state file; the counts go on where they stopped, so a campaign
may be run in slices (`--seconds`).
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import torch

from benchmarks.fuzz_seeds import CAMPAIGNS, FRAMES, Campaign
from benchmarks.made_clips import moving_pictures, write_clip
from benchmarks.mutations import mutate
from vsr import cli

SECONDS_ALLOWED = 30
MEBIBYTES_ALLOWED = 1024
"""Of resident memory, with Python, torch and libav in it."""


@dataclass
class Tally:
    """What came of the cases so far."""

    done: int = 0
    exits: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    most_mebibytes: float = 0.0
    most_seconds: float = 0.0

    @classmethod
    def load(cls, path: Path) -> "Tally":
        if not path.exists():
            return cls()
        stored = json.loads(path.read_text())
        return cls(
            **stored
            | {"exits": Counter(stored["exits"]), "mutations": Counter(stored["mutations"])}
        )

    def save(self, path: Path) -> None:
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(vars(self), indent=1))
        temporary.replace(path)


@dataclass(frozen=True)
class Outcome:
    """How one case ended."""

    exit: str
    seconds: float
    mebibytes: float
    told: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=CAMPAIGNS)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--state", type=Path, default=Path("fuzz.json"))
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--only", type=int, help="this case alone, told in full")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tally = Tally.load(options.state)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        campaign = CAMPAIGNS[options.kind](folder)
        warm_up(campaign, folder / "out.mkv")
        kept = options.state.with_suffix("")
        numbers = range(tally.done, options.count) if options.only is None else [options.only]
        for number in numbers:
            if time.monotonic() - begin > options.seconds:
                break
            run_case(number, campaign, folder / "out.mkv", tally, kept)
            if options.only is None:
                tally.save(options.state)
    print_tally(options.kind, tally)


def warm_up(campaign: Campaign, output: Path) -> None:
    """Load here, once, what runs load, and show that every seed is sound.

    No model runs in this process: what its threads hold would be held for ever in a fork.
    """
    import spandrel  # noqa: F401

    clip = write_clip(
        output.with_name("warm.mkv"), moving_pictures(3), codec="ffv1", pixel_format="bgr0"
    )
    options = ["--policy", "bicubic", "--scale", "1", "-c", "ffv1", "--metrics", ""]
    sys.argv = ["vsr", "run", str(clip), "-o", str(output.with_name("warm_out.mkv")), *options]
    with suppress(SystemExit):
        cli.main()
    for seed in dict.fromkeys(campaign.seeds):
        case = campaign.place(seed)
        case.write_bytes(seed.read_bytes())
        outcome = in_child(campaign.command(case, output))
        if outcome.exit != "0":
            raise RuntimeError(
                f"{seed.name} is not sound: ended with {outcome.exit}: {outcome.told[-500:]}"
            )


def run_case(number: int, campaign: Campaign, output: Path, tally: Tally, kept: Path) -> None:
    """Damage the seed whose turn it is, by the number alone, and run it."""
    rng = random.Random(number)
    seed = campaign.seeds[number % len(campaign.seeds)]
    name, damaged = mutate(seed.read_bytes(), rng)
    case = campaign.place(seed)
    for left in [output, *output.parent.glob(".*")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    case.write_bytes(damaged)
    outcome = in_child(campaign.command(case, output))
    fault = fault_of(outcome, output, campaign.telling_codes)
    if fault is None and outcome.exit == "0" and count_frames(output) != FRAMES:
        # Of what is in the file nothing was lost; that there was more once, nothing in it tells.
        is_told = "before the first keyframe" in outcome.told or count_frames(
            output
        ) == stored_packets(case)
        fault = None if is_told else "ended with 0 and too few frames"
        tally.exits["0, shorter by its own account"] += fault is None
    tally.done = max(tally.done, number + 1)
    tally.exits[outcome.exit] += 1
    tally.mutations[name] += 1
    tally.most_mebibytes = max(tally.most_mebibytes, outcome.mebibytes)
    tally.most_seconds = max(tally.most_seconds, outcome.seconds)
    if fault is not None:
        line = f"{number} {seed.name} {name}: {fault}"
        tally.failures.append(line)
        print(line, outcome.told[-600:], sep="\n", file=sys.stderr, flush=True)
        kept.mkdir(exist_ok=True)
        (kept / f"{number}_{seed.name}").write_bytes(damaged)


def in_child(arguments: list[str]) -> Outcome:
    """Run the command line in a fork of this process."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as messages:
        child = os.fork()
        if child == 0:
            os.dup2(messages.fileno(), 1)
            os.dup2(messages.fileno(), 2)
            sys.argv = ["vsr", *arguments]
            code = 70
            try:
                cli.main()
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else 1
            except BaseException:  # whatever comes out of the command line is what is looked for
                import traceback

                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code)
        status, usage = wait_for(child, start + SECONDS_ALLOWED)
        messages.seek(0)
        told = messages.read().decode(errors="replace")
    seconds = time.monotonic() - start
    if status is None:
        ending = "hang"
    elif os.WIFSIGNALED(status):
        ending = f"signal {os.WTERMSIG(status)}"
    else:
        ending = str(os.WEXITSTATUS(status))
    return Outcome(ending, seconds, usage.ru_maxrss / 1024, told)


def wait_for(child: int, deadline: float) -> tuple[int | None, resource.struct_rusage]:
    """Exit status, None where the child had to be killed, and what it used."""
    while True:
        finished, status, usage = os.wait4(child, os.WNOHANG)
        if finished:
            return status, usage
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            return None, usage
        time.sleep(0.002)


def fault_of(outcome: Outcome, output: Path, telling_codes: Sequence[int]) -> str | None:
    """What must never happen; None where it did not."""
    if outcome.exit not in map(str, telling_codes):
        return f"ended with {outcome.exit}"
    if "Traceback" in outcome.told:
        return "a traceback was shown"
    if outcome.mebibytes > MEBIBYTES_ALLOWED:
        return f"took {outcome.mebibytes:.0f} MiB"
    if outcome.exit not in ("0", "6"):
        return "left an output behind" if output.exists() else None
    num_frames = count_frames(output)
    told = json.loads(output.with_suffix(".json").read_text())["frames_out"]
    if num_frames != told:
        return f"wrote {num_frames} frames and told of {told}"
    return None


def count_frames(path: Path) -> int:
    with av.open(str(path), metadata_errors="surrogateescape") as clip:
        return sum(1 for _ in clip.decode(video=0))


def stored_packets(path: Path) -> int | None:
    """How many packets of video ffprobe, another build of libav, finds in a file."""
    query = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_packets"]
    shown = ["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", str(path)]
    answer = subprocess.run(
        [*query, *shown], capture_output=True, text=True, check=False
    ).stdout.split()
    return int(answer[0].strip(",")) if answer and answer[0].strip(",").isdecimal() else None


def print_tally(kind: str, tally: Tally) -> None:
    exits = ", ".join(f"{code}: {count}" for code, count in sorted(tally.exits.items()))
    print(f"{kind}: {tally.done} cases; exit codes {exits}; {len(tally.failures)} failures")
    print(f"longest {tally.most_seconds:.1f} s, most memory {tally.most_mebibytes:.0f} MiB")
    for line in tally.failures[-50:]:
        print("  ", line)


if __name__ == "__main__":
    main()
