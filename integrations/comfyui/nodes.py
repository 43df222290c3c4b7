"""The nodes, on ComfyUI's V3 API: inputs, outputs, checks, progress and cancelling."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyExtension, InputImpl, io, ui

import vsr

from . import work

CATEGORY = "video/vsr"
BY_ITSELF = "automatic"
"""Choice that leaves an option to vsr."""
POLICIES = (BY_ITSELF, "shot", "smi", "avgi", "student", "bicubic", "lanczos")
CONTAINERS = ("mp4", "mkv")


class UpscaleVideoFile(io.ComfyNode):
    """Upscales a video from disk to disk: memory does not grow with its length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="VsrUpscaleVideoFile",
            display_name="Upscale video file (vsr)",
            category=CATEGORY,
            description="Upscales a whole video, frame by frame on disk, with sound and times.",
            inputs=[
                io.Video.Input("video", optional=True),
                io.String.Input(
                    "path", default="", optional=True, tooltip="A video file, without VIDEO."
                ),
                io.Float.Input("scale", default=4.0, min=1.0, max=16.0, step=0.1, optional=True),
                io.Combo.Input("policy", options=list(POLICIES), default=BY_ITSELF, optional=True),
                io.String.Input(
                    "models",
                    default="",
                    optional=True,
                    tooltip="Folder of models that vsr has trained; empty: the shipped prior.",
                ),
                _strength(),
                io.Combo.Input("container", options=list(CONTAINERS), optional=True),
                io.String.Input("filename_prefix", default="video/vsr", optional=True),
                _settings(),
            ],
            outputs=[io.Video.Output(), io.String.Output(display_name="path")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, path: str = "", models: str = "") -> bool | str:
        """Tell of files that are not there before the prompt is run."""
        return _missing(path, models) or True

    @classmethod
    def fingerprint_inputs(cls, path: str = "", **_: Any) -> Any:
        """Run again where the file has changed."""
        return os.path.getmtime(path) if path and os.path.exists(path) else path

    @classmethod
    def execute(
        cls,
        video: Any = None,
        path: str = "",
        scale: float = 4.0,
        policy: str = BY_ITSELF,
        models: str = "",
        steady: str = BY_ITSELF,
        container: str = CONTAINERS[0],
        filename_prefix: str = "video/vsr",
        settings: str = "",
    ) -> io.NodeOutput:
        """Upscale into the output folder."""
        options = {
            "scale": scale,
            "policy": _chosen(policy),
            "models": models or None,
            "steady": _chosen(steady),
            # A prompt is expected to begin with its work at once.
            "train": "never",
        }
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        file = f"{name}_{counter:05}_.{container}"
        output = Path(folder, file)
        with _host_errors(), _file_of(video, path, "video") as clip:
            notes = work.upscale_file(
                clip, output, options, work.split_settings(settings), _hooks()
            )
        shown = [ui.SavedResult(file, subfolder, io.FolderType.output)]
        return io.NodeOutput(
            InputImpl.VideoFromFile(str(output)),
            str(output),
            ui={**ui.PreviewVideo(shown).as_dict(), "text": notes},
        )


class Steady(io.ComfyNode):
    """Steadies what any upscaler has made of a batch of pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="VsrSteady",
            display_name="Steady upscaled images (vsr)",
            category=CATEGORY,
            description="Keeps upscaled pictures of a video from flickering.",
            inputs=[
                io.Image.Input("images", tooltip="The upscaled pictures, in order."),
                io.Image.Input("low_resolution", tooltip="The pictures they were made of."),
                _strength(),
                _settings(),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(
        cls, images: Any, low_resolution: Any, steady: str = BY_ITSELF, settings: str = ""
    ) -> io.NodeOutput:
        """Steady the batch."""
        options = {"steady": _chosen(steady)}
        with _host_errors():
            return io.NodeOutput(
                work.steady_batch(
                    images, low_resolution, options, work.split_settings(settings), _hooks()
                )
            )


class Score(io.ComfyNode):
    """Measures a video: flicker and sharpness, and how near it comes to a truth."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="VsrScore",
            display_name="Score video (vsr)",
            category=CATEGORY,
            description="Measures flicker, sharpness and fidelity of a video.",
            inputs=[
                io.Video.Input("result"),
                io.Video.Input("reference", optional=True, tooltip="The truth, at that size."),
                io.Video.Input("low_resolution", optional=True, tooltip="What it was made of."),
                io.String.Input(
                    "metrics", default="", optional=True, tooltip="Names; empty: all possible."
                ),
            ],
            outputs=[io.String.Output(display_name="scores")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, result: Any, reference: Any = None, low_resolution: Any = None, metrics: str = ""
    ) -> io.NodeOutput:
        """Score, and show the figures."""
        names = metrics.replace(",", " ").split()
        with (
            _host_errors(),
            _file_of(result) as clip,
            _file_of(reference) as truth,
            _file_of(low_resolution) as low,
        ):
            means = work.score_file(clip, truth, low, names, _hooks())
        lines = "\n".join(f"{name}: {mean:.4g}" for name, mean in means.items())
        return io.NodeOutput(json.dumps(means), ui=ui.PreviewText(lines))


class VsrExtension(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """List the nodes."""
        return [UpscaleVideoFile, Steady, Score]


async def comfy_entrypoint() -> VsrExtension:
    """Load the pack."""
    return VsrExtension()


@contextmanager
def _host_errors() -> Iterator[None]:
    """Raise what ComfyUI knows: its own exception for a cancelled prompt, an error with one line
    for a user's mistake."""
    try:
        yield
    except work.Cancelled:
        # Takes the request back as well, so that the next prompt runs.
        comfy.model_management.throw_exception_if_processing_interrupted()
        raise
    except vsr.VsrError as error:
        raise ValueError(str(error)) from None


@contextmanager
def _file_of(video: Any, path: str = "", name: str = "") -> Iterator[Path | None]:
    """Give the file of a VIDEO, or of a path where there is none; None where neither is given and
    the input, without a `name`, need not be."""
    if video is not None:
        with work.on_disk(video.get_stream_source(), folder_paths.get_temp_directory()) as file:
            yield file
    elif path or not name:
        yield Path(path) if path else None
    else:
        raise ValueError(f"connect {name}, or name a file under path.")


def _hooks() -> work.Hooks:
    bar = comfy.utils.ProgressBar(1)
    return work.Hooks(bar.update_absolute, comfy.model_management.processing_interrupted)


def _chosen(choice: str) -> str | None:
    return None if choice in ("", BY_ITSELF) else choice


def _missing(path: str, models: str) -> str:
    if path and not os.path.exists(path):
        return f"there is no file {path}"
    if models and not os.path.isdir(models):
        return f"there is no folder of models at {models}"
    return ""


def _strength() -> Any:
    return io.String.Input(
        "steady",
        default=BY_ITSELF,
        optional=True,
        tooltip="Flicker control: 0 none to 1 strongest, auto, or automatic.",
    )


def _settings() -> Any:
    return io.String.Input(
        "settings",
        default="",
        multiline=True,
        optional=True,
        tooltip="Other options of vsr run, key=value on lines of their own, as --set takes them.",
    )
