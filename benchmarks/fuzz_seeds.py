"""The sound files that the fuzz campaign damages: tiny clips of many kinds, models of a moment's
training, recipes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from benchmarks.made_clips import moving_pictures, write_clip
from benchmarks.made_models import make_model, make_shot_model, picture
from vsr.models.networks.classic import Espcn, EspcnSpec
from vsr.models.shot_model import save_shot_model
from vsr.upscale.networks.files import NetworkCard, encode_network

FRAMES = 12
SIDE = 32
QUIET = {"x265-params": "log-level=none"}
VPX = {"cpu-used": "8", "deadline": "realtime"}
KINDS: tuple[tuple[str, str, str, dict[str, str], str | None], ...] = (
    ("mp4", "libx264", "yuv420p", {"bf": "2", "g": "6"}, "aac"),
    ("mkv", "libx264", "yuv420p", {"bf": "2"}, "aac"),
    ("fragmented.mp4", "libx264", "yuv420p", {"bf": "0", "g": "4"}, None),
    ("faststart.mp4", "libx264", "yuv420p10le", {"bf": "0"}, None),
    ("ts", "libx264", "yuv420p", {"bf": "2"}, "mp2"),
    ("avi", "libx264", "yuv420p", {"bf": "0"}, "pcm_s16le"),
    ("flv", "libx264", "yuv420p", {"bf": "0"}, None),
    ("h264", "libx264", "yuv420p", {}, None),
    ("mp4", "libx265", "yuv420p", QUIET, None),
    ("mkv", "libx265", "yuv420p10le", QUIET, "pcm_s16le"),
    ("mp4", "libsvtav1", "yuv420p", {"preset": "10"}, None),
    ("webm", "libvpx-vp9", "yuv420p", VPX, "libopus"),
    ("webm", "libvpx-vp9", "yuva420p", VPX, None),
    ("webm", "libvpx", "yuv420p", VPX, None),
    ("avi", "mpeg4", "yuv420p", {}, "pcm_s16le"),
    ("mpg", "mpeg2video", "yuv420p", {}, None),
    ("mov", "mjpeg", "yuvj420p", {}, "pcm_s16le"),
    ("mov", "prores_ks", "yuv422p10le", {}, None),
    ("mov", "png", "rgb24", {}, None),
    ("mkv", "ffv1", "bgr0", {"level": "3", "slicecrc": "1"}, None),
    ("mkv", "ffv1", "yuv422p10le", {}, None),
    ("nut", "ffv1", "gray", {}, None),
    ("y4m", "wrapped_avframe", "yuv420p", {}, None),
    ("gif", "gif", "rgb8", {}, None),
)


@dataclass(frozen=True)
class Campaign:
    """What is damaged, where the damaged copy of a seed is put, and the command that is given
    it."""

    seeds: list[Path]
    place: Callable[[Path], Path]
    command: Callable[[Path, Path], list[str]]
    telling_codes: tuple[int, ...]
    """Exit codes of the contract that may come of it."""


def clip_campaign(folder: Path) -> Campaign:
    seeds = [
        _clip(folder / f"seed{number:02d}_{codec}.{suffix}", codec, pixel_format, options, sound)
        for number, (suffix, codec, pixel_format, options, sound) in enumerate(KINDS)
    ]
    return Campaign(
        seeds,
        lambda seed: folder / f"case.{seed.name.partition('.')[2]}",
        lambda case, out: _run(case, out, "bicubic"),
        (0, 3, 6),
    )


def _clip(
    path: Path, codec: str, pixel_format: str, options: dict[str, str], sound: str | None
) -> Path:
    size = 64 if codec == "libsvtav1" else SIDE
    pictures = moving_pictures(FRAMES, size, size)
    rich = path.suffix == ".mkv" and sound is not None
    muxer = {
        "fragmented": {"movflags": "frag_keyframe+empty_moov"},
        "faststart": {"movflags": "faststart"},
    }
    return write_clip(
        path,
        [np.ascontiguousarray(picture) for picture in pictures],
        codec=codec,
        pixel_format=pixel_format,
        codec_options=options,
        container_options=next((value for name, value in muxer.items() if name in path.name), {}),
        audio_codec=sound,
        time_base=Fraction(1, 25),
        subtitles=[(100, 200, b"a line")] if rich else (),
        attachment=("a.ttf", "font/ttf", b"not really a font") if rich else None,
        chapters=[(0, 0.2, "one"), (0.2, 0.4, "two")]
        if path.suffix in (".mkv", ".mp4") and sound
        else (),
        tags={"title": "a film"},
    )


def model_campaign(folder: Path) -> Campaign:
    made = folder / "made"
    for seed in range(3):
        make_model(made, f"m{seed}", picture(), seed=seed)
    shot = make_shot_model()
    save_shot_model(made / "s.shot.safetensors", shot.card, shot.networks)
    seeds = sorted(made.glob("*.safetensors"))
    bank = folder / "bank"
    bank.mkdir()
    clip = write_clip(
        folder / "clip.mkv", moving_pictures(FRAMES, 24, 24), codec="ffv1", pixel_format="bgr0"
    )

    def place(seed: Path) -> Path:
        for old in bank.iterdir():
            old.unlink()
        return bank / seed.name

    def command(case: Path, output: Path) -> list[str]:
        policy = "shot" if case.name.endswith(".shot.safetensors") else "smi"
        return [*_run(clip, output, policy), "--models", str(bank), "--steady", "0"]

    return Campaign(seeds, place, command, (0, 5))


def upscaler_campaign(folder: Path) -> Campaign:
    """Files of ours, as Python pickles and as safetensors, and one of an architecture that spandrel
    knows."""
    torch.manual_seed(0)
    spec = EspcnSpec(2, 8, 8)
    card = NetworkCard("espcn", asdict(spec), "espcn", {}, "0")
    compact = _compact_state()
    made = {
        "own.safetensors": encode_network(card, Espcn(spec)),
        "compact.safetensors": save(compact),
    }
    seeds = [folder / name for name in (*made, "compact.pth")]
    for name, content in made.items():
        (folder / name).write_bytes(content)
    torch.save(compact, seeds[-1])
    clip = write_clip(
        folder / "clip.mkv", moving_pictures(FRAMES, 24, 24), codec="ffv1", pixel_format="bgr0"
    )

    def command(case: Path, output: Path) -> list[str]:
        arguments = _run(clip, output, "bicubic")
        place = arguments.index("--policy")
        return [
            *arguments[:place],
            "--upscaler",
            str(case),
            *arguments[place + 2 :],
            "--steady",
            "0",
        ]

    return Campaign(seeds, lambda seed: folder / f"case{seed.suffix}", command, (0, 5))


def _compact_state() -> dict[str, torch.Tensor]:
    """Of the smallest network of Real-ESRGAN's compact family."""
    shapes = {"body.0": (8, 3), "body.2": (8, 8), "body.4": (12, 8)}
    state = {f"{name}.weight": torch.randn(*shape, 3, 3) / 20 for name, shape in shapes.items()}
    state |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    return state | {f"body.{number}.weight": torch.full((8,), 0.1) for number in (1, 3)}


def recipe_campaign(folder: Path) -> Campaign:
    recipes = Path(__file__).resolve().parents[1] / "pipelines"
    every_key = folder / "every_key.toml"
    every_key.write_text(EVERY_KEY)
    clip = write_clip(
        folder / "clip.mkv", moving_pictures(FRAMES, 24, 24), codec="ffv1", pixel_format="bgr0"
    )
    # Those with a title are for `vsr experiment`; ffv1, which makes cases quick, has no presets.
    of_runs = [
        path
        for path in sorted(recipes.glob("*.toml"))
        if not {"title", "preset"} & set(path.read_text().split())
    ]
    seeds = [*of_runs, *[every_key] * 10]
    return Campaign(
        seeds,
        lambda _: folder / "case.toml",
        lambda case, out: [*_run(clip, out, "bicubic"), "--recipe", str(case)],
        (0, 2),
    )


EVERY_KEY = """# every kind of value
scale = 2.0
steady = 0.0
metrics = ["sharpness_live", "lr_psnr"]
device = "cpu"
[read]
on_damage = "keep"
deinterlace = "off"
[policies]
back_projection_weight = 0.5
quality = "fast"
[shots]
min_shot_frames = 6
[encode]
codec = "ffv1"
pixel_format = "yuv420p"
segment_frames = 240
"""


def _run(clip: Path, output: Path, policy: str) -> list[str]:
    record = output.with_suffix(".json")
    options = [
        "--policy",
        policy,
        "--scale",
        "1",
        "-c",
        "ffv1",
        "--metrics",
        "",
        "--json",
        str(record),
        "-y",
    ]
    return ["run", str(clip), "-o", str(output), *options]


CAMPAIGNS = {
    "clips": clip_campaign,
    "models": model_campaign,
    "upscalers": upscaler_campaign,
    "recipes": recipe_campaign,
}
