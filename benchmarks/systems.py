"""Every system on one real clip, with and without flicker control: a table by flicker at equal
sharpness; a picture.

    python -m benchmarks.systems --list systems.toml --frames 20

The list names systems and the options of `vsr run` that use them: one `[[system]]` with `name` and
`options` each, with paths relative to the list. Results are written without loss, kept in --results
and used again, and scored as by `vsr score`. Without a list: bicubic. Processor time is that of a
whole run on one thread without flicker control, in a process that has run before: reading,
enlarging and writing.
"""

import json
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from argparse import ArgumentParser
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.clips import CLIPS, EXCERPTS, use_shared_data
from benchmarks.measure import BORDER_PX, print_table
from vsr.metrics.scoreboard import Scoreboard
from vsr.video.reader import open_clip

TARGET = Path(__file__).resolve().parents[1] / "docs" / "figures" / "systems.png"
SHOWN = {"psnr_y": ".2f", "lpips": ".3f", "flicker": ".2f", "sharpness": ".3f"}
STEADY = ("0", "auto")
CROP = (430, 100, 170, 110)
"""Left, top, width and height in pixels of the truth."""
SHOWN_FRAME = 10
WARM_FRAMES, TIMED_FRAMES = 3, 6
RUN = "from vsr.cli import main; main()"
RUN_TIMED = """
import sys
from time import process_time
from vsr.cli import app
warm, timed, *options = sys.argv[1:]
assert not app(["run", warm, *options], standalone_mode=False)
start = process_time()
assert not app(["run", timed, *options], standalone_mode=False)
print(process_time() - start)
"""
PANELS_PER_ROW = 4
LABEL_PX = 36
DEFAULT_LIST = '[[system]]\nname = "bicubic"\noptions = "--policy bicubic"\n'


@dataclass(frozen=True)
class Measured:
    """One system with one strength of flicker control."""

    name: str
    steady: str
    figures: dict[str, float]
    cpu_seconds: float | None
    """Of a frame; not measured with flicker control."""
    panel: np.ndarray

    @property
    def flicker_at_equal_sharpness(self) -> float:
        """Flicker for each unit of the truth's gradient that is there: blur would else count as
        steadiness.

        Gradients beyond the truth's are ringing or noise, and earn nothing.
        """
        return self.figures["flicker"] / min(self.figures["sharpness"], 1)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--list", type=Path, help="a TOML list of systems")
    parser.add_argument("--clip", choices=EXCERPTS, default="walk")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument(
        "--results", type=Path, default=Path(tempfile.gettempdir()) / "vsr-systems", metavar="DIR"
    )
    options = parser.parse_args()
    use_shared_data()
    systems = tomllib.loads(options.list.read_text() if options.list else DEFAULT_LIST)["system"]
    folder = options.list.absolute().parent if options.list else Path.cwd()
    excerpt = EXCERPTS[options.clip]
    results = options.results.absolute() / f"{options.clip}-{options.frames}"
    results.mkdir(parents=True, exist_ok=True)
    for frames in {options.frames, WARM_FRAMES, TIMED_FRAMES}:
        cut(CLIPS / excerpt.low, low_clip(results, frames), frames)
    truths = list(islice(excerpt.pictures(), options.frames))
    measured = [
        measure(system, steady, truths, folder, results) for steady in STEADY for system in systems
    ]
    measured.sort(key=lambda each: each.flicker_at_equal_sharpness)
    print_measured(measured, options)
    draw(measured, truths[shown_frame(len(truths))])


def cut(source: Path, target: Path, frames: int) -> None:
    """The first frames of a clip, unchanged."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        for packet in islice(container.demux(video=0), frames):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)


def measure(system, steady, truths, folder, results) -> Measured:
    """Run the command, unless its result is there, and score what it wrote without loss."""
    name = f"{re.sub(r'[^a-z0-9]+', '-', system['name'].lower())}-{steady}"
    output, record = results / f"{name}.mkv", results / f"{name}.json"
    if not record.exists():
        print(f"{system['name']}, steady {steady}", file=sys.stderr, flush=True)
        clip, options = low_clip(results, len(truths)), ["--steady", steady, "--json", str(record)]
        call(RUN, ["run", str(clip), *options_of(system, output), *options], folder)
    scores = results / f"{name}.scores.json"
    if not scores.exists():
        scores.write_text(json.dumps(score(output, truths)))
    cost = results / f"{name}.cpu.json"
    if steady == "0" and not cost.exists():
        cost.write_text(json.dumps(cpu_seconds_per_frame(system, folder, results)))
    taken = json.loads(cost.read_text()) if steady == "0" else None
    return Measured(
        system["name"], steady, json.loads(scores.read_text()), taken, panel_of(output, len(truths))
    )


def cpu_seconds_per_frame(system, folder, results) -> float:
    """On one thread, without flicker control."""
    clips = [str(low_clip(results, frames)) for frames in (WARM_FRAMES, TIMED_FRAMES)]
    options = [*options_of(system, results / "timed.mkv"), "--steady", "0", "--threads", "1"]
    return float(call(RUN_TIMED, [*clips, *options], folder)) / TIMED_FRAMES


def options_of(system, output) -> list[str]:
    """To use a system, and write what it makes without loss, over what is there."""
    options = shlex.split(system["options"])
    return ["-o", str(output), "-y", "-c", "ffv1", "--pix-fmt", "bgr0", "--metrics", "", *options]


def call(code, arguments, folder) -> str:
    """What a Python program, in a process of its own, writes to standard output."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def low_clip(results, frames: int) -> Path:
    return results / f"low-{frames}.mkv"


def score(output, truths) -> dict[str, float]:
    """Means over the frames of a result."""
    board = Scoreboard(list(SHOWN), has_truth=True, has_low_resolution=False, border=BORDER_PX)
    with open_clip(output) as reader:
        for frame, truth in zip(reader.frames(), truths, strict=True):
            board.update(frame, truth)
    return {name: result.mean for name, result in board.compute().items()}


def panel_of(output, frames: int) -> np.ndarray:
    """The crop of a result's shown frame."""
    with open_clip(output) as reader:
        return crop(next(islice(reader.frames(), shown_frame(frames), None)).pixels)


def shown_frame(frames: int) -> int:
    return min(SHOWN_FRAME, frames - 1)


def print_measured(measured, options) -> None:
    head = [
        "system",
        "flicker control",
        "flicker / sharpness",
        "PSNR-Y dB",
        "LPIPS (squeeze)",
        "flicker",
        "sharpness",
    ]
    rows = [
        [
            each.name,
            "auto" if each.steady == "auto" else "-",
            f"{each.flicker_at_equal_sharpness:.2f}",
            *(format(each.figures[name], form) for name, form in SHOWN.items()),
            "" if each.cpu_seconds is None else f"{each.cpu_seconds:.2f}",
        ]
        for each in measured
    ]
    print_table(f"**{options.clip}, {options.frames} frames, x4**", [*head, "CPU-s/frame"], rows)


def draw(measured, truth) -> None:
    """One crop of every system, in the table's order, the truth last."""
    panels = []
    for each in measured:
        control = "flicker control, " if each.steady == "auto" else ""
        panels.append(
            labelled(each.panel, f"{each.name}\n{control}{each.flicker_at_equal_sharpness:.2f}")
        )
    panels.append(labelled(crop(truth), "truth"))
    blank = np.full_like(panels[0], 255)
    panels += [blank] * (-len(panels) % PANELS_PER_ROW)
    rows = [
        np.concatenate(panels[at : at + PANELS_PER_ROW], axis=1)
        for at in range(0, len(panels), PANELS_PER_ROW)
    ]
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(TARGET), np.concatenate(rows)[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"\n{TARGET.name}: {TARGET.stat().st_size / 1024:.0f} KiB")


def crop(pixels) -> np.ndarray:
    """uint8 RGB of the crop."""
    left, top, width, height = CROP
    part = pixels[:, top : top + height, left : left + width]
    return (part.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def labelled(panel: np.ndarray, text: str) -> np.ndarray:
    """A text above a panel, with a white frame around both."""
    label = np.full((LABEL_PX, panel.shape[1], 3), 255, np.uint8)
    for number, line in enumerate(text.split("\n"), start=1):
        label = cv2.putText(
            label, line, (2, 16 * number - 4), (20, 20, 20), cv2.FontFace("sans"), 11
        )[1]
    return np.pad(np.concatenate([label, panel]), ((0, 4), (0, 4), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main()
