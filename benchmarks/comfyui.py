"""Run the node pack in a real ComfyUI, without its page, through its HTTP API.

    python -m benchmarks.comfyui COMFYUI --python PYTHON [--hours 1] [--json OUT.json]

COMFYUI is a checkout of its public repository, PYTHON one that has its requirements and vsr. A
server is started on the CPU, with folders of its own. Both workflows that the pack ships are run on
the sample; mistakes must be refused with a message, and a cancelled prompt must end and go on when
it is asked for again. With `--hours` the sample is looped to that length and enlarged by `bicubic`,
and the server's resident memory is read once a minute.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av
import requests

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / "integrations" / "comfyui"
SAMPLE = ROOT / "samples" / "clip.mp4"
START_SECONDS, PROMPT_SECONDS = 600, 1200
SECONDS_BETWEEN_SAMPLES = 60


@dataclass
class Server:
    """A ComfyUI that is running."""

    address: str
    process: subprocess.Popen
    folder: Path
    """Holds its input and output."""

    def post(self, workflow: dict[str, Any]) -> requests.Response:
        """Offer a prompt."""
        return requests.post(f"{self.address}/prompt", json={"prompt": workflow}, timeout=60)

    def queue(self, workflow: dict[str, Any]) -> str:
        """Queue a prompt; its number."""
        answer = self.post(workflow)
        assert answer.status_code == 200, answer.text
        return answer.json()["prompt_id"]

    def finish(self, prompt: str, beside: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Wait for the end of a prompt; its record."""
        while True:
            assert self.process.poll() is None, "the server has died"
            record = requests.get(f"{self.address}/history/{prompt}", timeout=60).json()
            if prompt in record:
                return record[prompt]
            beside()
            time.sleep(0.5)

    def resident_mb(self) -> int:
        """Resident memory of the process, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
        return int(line.split()[1]) // 1024


@dataclass
class Report:
    """What was seen."""

    comfyui: str
    checks: list[str] = field(default_factory=list)
    resident_mb: list[tuple[int, int]] = field(default_factory=list)
    """Seconds since the start of the film, and MiB."""
    film_frames: int = 0
    film_seconds: float = 0.0

    def passed(self, check: str) -> None:
        """Note what holds."""
        self.checks.append(check)
        print(check, flush=True)


@contextmanager
def running(comfyui: Path, python: Path, port: int) -> Iterator[Server]:
    """Start a server with the pack and the sample, and end it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in ("custom_nodes", "input", "output", "models", "user", "temp"):
            (folder / each).mkdir()
        (folder / "custom_nodes" / "vsr").symlink_to(PACK)
        shutil.copy(SAMPLE, folder / "input" / "clip.mp4")
        command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
        with open(folder / "log.txt", "w") as log:
            process = subprocess.Popen(
                [*map(str, command), "--base-directory", name],
                cwd=comfyui,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        server = Server(f"http://127.0.0.1:{port}", process, folder)
        try:
            wait_for(server)
            yield server
        except BaseException:
            print((folder / "log.txt").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait()


def wait_for(server: Server) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        try:
            requests.get(f"{server.address}/system_stats", timeout=5)
        except requests.ConnectionError:
            time.sleep(1)
        else:
            return
    raise SystemExit("ComfyUI did not start")


def workflow(name: str) -> dict[str, Any]:
    """Read a workflow that the pack ships."""
    return json.loads((PACK / "example_workflows" / f"{name}.json").read_text())


def upscaling(**inputs: object) -> dict[str, Any]:
    """Make a workflow of the first node alone."""
    node = {"class_type": "VsrUpscaleVideoFile", "inputs": {"policy": "bicubic", **inputs}}
    return {"1": node}


def check_workflows(server: Server, report: Report) -> None:
    """Run both workflows on the sample."""
    done = server.finish(server.queue(workflow("upscale_video_file")))
    assert done["status"]["status_str"] == "success", done["status"]
    (made,) = (server.folder / "output" / "video").glob("vsr_*.mp4")
    assert shape(made) == (192, 128, 40)
    text = done["outputs"]["3"]["text"][0]
    assert "flicker_live" in text, text
    report.passed(f"upscale_video_file.json: {made.name}, 40 frames of 192x128; {text!r}")
    done = server.finish(server.queue(workflow("steady_images")))
    assert done["status"]["status_str"] == "success", done["status"]
    (made,) = (server.folder / "output" / "video").glob("steady_*.mp4")
    assert shape(made) == (192, 128, 40)
    report.passed(f"steady_images.json: {made.name}, 40 frames of 192x128")


def check_mistakes(server: Server, report: Report) -> None:
    """Ask for what cannot be: each must end with a message, and the server must go on."""
    answer = server.post(upscaling(path="nowhere.mkv"))
    assert answer.status_code == 400, answer.text
    assert "there is no file nowhere.mkv" in answer.text, answer.text
    report.passed("a file that is not there: refused before the prompt runs")
    clip = str(server.folder / "input" / "clip.mp4")
    lengths = workflow("steady_images")
    lengths["7"] = {
        "class_type": "ImageFromBatch",
        "inputs": {"image": ["3", 0], "batch_index": 0, "length": 5},
    }
    lengths["4"]["inputs"]["images"] = ["7", 0]
    mistakes = {
        "images holds 5 pictures and low_resolution 40": lengths,
        "needs a bank": upscaling(path=clip, policy="smi"),
        "nonsense": upscaling(path=clip, settings="nonsense=1"),
        "connect video": upscaling(),
    }
    for words, prompt in mistakes.items():
        done = server.finish(server.queue(prompt))
        messages = dict(done["status"]["messages"])
        told = messages["execution_error"]["exception_message"]
        assert words in told, told
        report.passed(f"{messages['execution_error']['exception_type']}: {told.strip()}")


def check_cancelling(server: Server, report: Report) -> None:
    """Cancel a prompt in its middle, run another, and ask for the first again."""
    film = server.folder / "input" / "long.mkv"
    loop(SAMPLE, film, 25)
    prompt = upscaling(
        path=str(film), scale=2.0, filename_prefix="cut", settings="encode.segment_frames=20"
    )
    number = server.queue(prompt)
    work = server.folder / "output"
    # Until a segment is whole, from which the next prompt goes on.
    while not list(work.glob(".cut*/segment-000001.json")):
        assert server.process.poll() is None
        time.sleep(0.1)
    requests.post(f"{server.address}/interrupt", timeout=60)
    done = server.finish(number)
    assert "execution_interrupted" in dict(done["status"]["messages"]), done["status"]
    assert not list(work.glob("cut*")), "a cancelled prompt leaves no result"
    report.passed("a cancelled prompt ends as interrupted, without a result")
    done = server.finish(server.queue(prompt))
    assert done["status"]["status_str"] == "success", done["status"]
    notes = done["outputs"]["1"]["text"]
    (resumed,) = [note for note in notes if note.startswith("resuming at frame")]
    (made,) = work.glob("cut*.mp4")
    assert shape(made) == (192, 128, 1000)
    report.passed(f"asked for again: {resumed}, 1000 frames")


def check_memory(server: Server, report: Report, hours: float) -> None:
    """Enlarge a long film, and watch the memory."""
    film = server.folder / "input" / "film.mkv"
    times = round(hours * 3600 * 12 / 40)
    loop(SAMPLE, film, times)
    report.film_frames = 40 * times
    begun = time.monotonic()

    def watch() -> None:
        seconds = int(time.monotonic() - begun)
        if seconds >= len(report.resident_mb) * SECONDS_BETWEEN_SAMPLES:
            report.resident_mb.append((seconds, server.resident_mb()))
            print(f"{seconds} s: {report.resident_mb[-1][1]} MiB", flush=True)

    options = {"scale": 2.0, "filename_prefix": "film", "settings": "encode.preset=ultrafast"}
    done = server.finish(server.queue(upscaling(path=str(film), **options)), watch)
    assert done["status"]["status_str"] == "success", done["status"]
    report.film_seconds = time.monotonic() - begun
    report.resident_mb.append((int(report.film_seconds), server.resident_mb()))
    (made,) = (server.folder / "output").glob("film*.mp4")
    assert shape(made) == (192, 128, report.film_frames)
    most = max(size for _, size in report.resident_mb)
    report.passed(
        f"{report.film_frames} frames ({hours:g} hours) in {report.film_seconds:.0f} s: "
        f"at most {most} MiB resident"
    )


def loop(clip: Path, target: Path, times: int) -> None:
    """Copy a clip `times` over, without encoding it anew."""
    with av.open(str(target), "w") as out:
        with av.open(str(clip)) as source:
            stream = out.add_stream_from_template(source.streams.video[0])
        for number in range(times):
            with av.open(str(clip)) as source:
                read = source.streams.video[0]
                length = read.duration
                for packet in source.demux(read):
                    if packet.size:
                        packet.pts += number * length
                        packet.dts += number * length
                        packet.stream = stream
                        out.mux(packet)


def shape(clip: Path) -> tuple[int, int, int]:
    """Width, height and number of frames, counted."""
    with av.open(str(clip)) as source:
        stream = source.streams.video[0]
        count = sum(1 for packet in source.demux(stream) if packet.size)
        return stream.width, stream.height, count


def version(comfyui: Path) -> str:
    """Read the version of a checkout."""
    return (comfyui / "comfyui_version.py").read_text().split('"')[-2]


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--port", type=int, default=8189)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    report = Report(version(asked.comfyui))
    # Not resolved: a link to Python is what makes an environment one.
    with running(asked.comfyui, asked.python.absolute(), asked.port) as server:
        check_workflows(server, report)
        check_mistakes(server, report)
        check_cancelling(server, report)
        if asked.hours:
            check_memory(server, report, asked.hours)
    if asked.json:
        asked.json.write_text(json.dumps(asdict(report), indent=1) + "\n")


if __name__ == "__main__":
    main()
