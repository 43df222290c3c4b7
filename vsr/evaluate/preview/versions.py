"""Versions that a preview compares: excerpts of the clip enlarged in every way, by the stages of a
run, with figures and an estimate of the time for the whole clip."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter

import av
import numpy as np
import torch

from vsr.engine.options import choose_device
from vsr.engine.precision import choose_options
from vsr.errors import InterruptedRunError
from vsr.evaluate.images import to_rgb_image
from vsr.evaluate.preview.excerpts import EXCERPT_FRAMES, Excerpt, Survey
from vsr.evaluate.preview.models import PreviewModels
from vsr.evaluate.report.content import Role
from vsr.evaluate.report.frames import CROP_PX, MAX_HEIGHT_PX, MAX_WIDTH_PX, MomentFrames
from vsr.evaluate.report.moments import Box, Moment, busiest_box, busiest_column
from vsr.image.resample import scaled_size
from vsr.metrics.observation import FramePairCache
from vsr.metrics.scoreboard import Scoreboard
from vsr.models.shot_model import Quality
from vsr.pipeline.live_metrics import FLICKER, SHARPNESS
from vsr.pipeline.options import Recipe
from vsr.pipeline.session import (
    load_models,
    make_color_restoration,
    make_flicker_control,
    make_noise_removal,
)
from vsr.progress import Listener
from vsr.restore.finishing import Finishing
from vsr.restore.inspection import Inspection
from vsr.temporal.deflicker import AUTO_STRENGTH
from vsr.upscale import POLICIES, PolicyContext
from vsr.video.step import ShotRef, Step


@dataclass(frozen=True)
class Way:
    """One way to enlarge a clip, before and after flicker control."""

    label: str
    policy: str
    quality: Quality = "balanced"
    options: str = ""
    """Options of `vsr run` for it."""


WAYS = (
    Way("bicubic", "bicubic", options="--policy bicubic"),
    Way("one model", "smi", options="--policy smi"),
    Way("shot, fast", "shot", "fast", "--quality fast"),
    Way("shot, balanced", "shot", "balanced", "--quality balanced"),
    Way("shot, best", "shot", "best", "--quality best"),
)
SHOWN_FIRST = "shot, balanced"
"""Label of the version that a page shows first: what a run takes by default."""
STEADIED = " + flicker control"
NUM_VERSIONS = 2 * len(WAYS)


@dataclass(frozen=True)
class PreviewVersion:
    """One way to enlarge the clip, as it was measured on the excerpts."""

    label: str
    role: Role
    options: str
    """Options of `vsr run` that ask for it."""
    flicker: float | None
    """`flicker_live`, in gray levels."""
    sharpness: float | None
    """`sharpness_live`."""
    seconds_per_megapixel: float
    """Time to enlarge so many pixels of the source."""
    training_seconds: float
    """Time of the training that a run would do first."""


def enlarge_excerpts(
    recipe: Recipe,
    survey: Survey,
    excerpts: Sequence[Excerpt],
    models: PreviewModels,
    listener: Listener,
) -> tuple[list[PreviewVersion], list[MomentFrames]]:
    """Enlarge every excerpt in every way; also the pictures for the page, whose frame numbers are
    those of the clip where it was read whole, else guessed by its rate.

    Raises InterruptedRunError where the listener asks for an end.
    """
    studio = _Studio(recipe, survey)
    samples = [_empty_sample(survey, excerpt, recipe.scale) for excerpt in excerpts]
    measured: dict[str, list[_Measured]] = {}
    for number, excerpt in enumerate(excerpts):
        steps = studio.inspect(excerpt)
        shared = FramePairCache(capacity=EXCERPT_FRAMES + 1)
        for place, way in enumerate(WAYS):
            of_shots = models.shot_banks[way.quality]
            bank = models.keyframe_bank if way.policy == "smi" else of_shots[number]
            plain, seconds = studio.enlarge(steps, way, bank)
            for is_steadied in (False, True):
                result = studio.steady(plain, seconds, way, is_steadied, shared)
                measured.setdefault(way.label + STEADIED * is_steadied, []).append(result)
                _store(samples[number], 2 * place + is_steadied, result.pictures)
                if listener.should_stop():
                    raise InterruptedRunError(
                        "stopped; no page was written. Models that were trained are kept.",
                        can_resume=True,
                    )
                listener.on_progress(
                    NUM_VERSIONS * number + 2 * place + is_steadied + 1,
                    NUM_VERSIONS * len(excerpts),
                )
            # Pictures are large; only what is shown of them is kept.
            for one in measured.values():
                one[-1].pictures.clear()
    versions = []
    for way in WAYS:
        for label, options in (
            (way.label, way.options + (" --steady 0" if way.policy != "bicubic" else "")),
            (way.label + STEADIED, f"{way.options} --steady {AUTO_STRENGTH}"),
        ):
            versions.append(_sum_up(label, options, way, measured[label], survey, models))
    return versions, samples


@dataclass(frozen=True, eq=False)
class _Measured:
    """One version of one excerpt."""

    pictures: list[torch.Tensor]
    flicker: list[float]
    sharpness: list[float]
    seconds_per_megapixel: float


class _Studio:
    """The stages of a run, for excerpts."""

    def __init__(self, recipe: Recipe, survey: Survey) -> None:
        self._recipe, self._survey = recipe, survey
        self._device = choose_device(recipe.device)
        self._restore = recipe.restore_strength

    def inspect(self, excerpt: Excerpt) -> list[Step]:
        """Find out how the excerpt is degraded, and make steps of its windows."""
        shot = ShotRef(0, excerpt.frames[0].index)
        steps = [Step(frame, shot) for frame in excerpt.frames]
        inspection = Inspection(
            self._restore,
            looks=self._restore > 0,
            looks_back=self._recipe.read.quantizer is None,
        )
        looked_at = inspection.through(iter(steps))
        return [
            replace(step, frame=replace(window, pixels=window.pixels.to(self._device)))
            for step, window in zip(looked_at, excerpt.windows(), strict=True)
        ]

    def enlarge(self, steps: list[Step], way: Way, bank: Path) -> tuple[list[Step], float]:
        """Give every step its picture; also the time that it took."""
        policy = POLICIES[way.policy]
        recipe = self._recipe
        models = load_models(policy, recipe, bank)
        context = PolicyContext(
            models.bank,
            recipe.scale,
            self._device,
            self._survey.info.identity,
            replace(recipe.policies, quality=way.quality),
            shot_models=models.shot_models,
            engine=choose_options(recipe.dtype, recipe.tile, self._device),
        )
        stage = policy.make(context)
        began = perf_counter()
        cleaned = make_noise_removal(recipe, policy).through(iter(steps))
        color = make_color_restoration(recipe, policy, self._survey.info, self._device)
        made = list(stage.through(color.through(cleaned)))
        return made, perf_counter() - began

    def steady(
        self,
        plain: list[Step],
        seconds: float,
        way: Way,
        is_steadied: bool,
        shared: FramePairCache,
    ) -> _Measured:
        """Pass enlarged steps through flicker control, or not, and measure what comes out."""
        policy = POLICIES[way.policy]
        strength = AUTO_STRENGTH if is_steadied else 0.0
        control = make_flicker_control(replace(self._recipe, steady=strength), policy)
        began = perf_counter()
        steps = list(control.through(iter(plain)))
        seconds += perf_counter() - began
        board = Scoreboard(
            (FLICKER, SHARPNESS), has_truth=False, has_low_resolution=True, shared=shared
        )
        for step in steps:
            board.update(step.result, None, step.frame.pixels)
        figures = board.state(0)[0]
        pixels = sum(step.frame.height * step.frame.width for step in plain)
        return _Measured(
            [step.result.pixels for step in self._finish(steps)],
            [value for value in figures[FLICKER] if value is not None],
            [value for value in figures[SHARPNESS] if value is not None],
            1e6 * seconds / pixels,
        )

    def _finish(self, steps: list[Step]) -> list[Step]:
        finishing = Finishing(self._recipe.grain, self._recipe.scale)
        return list(finishing.through(iter(steps)))


def _sum_up(
    label: str,
    options: str,
    way: Way,
    measured: Sequence[_Measured],
    survey: Survey,
    models: PreviewModels,
) -> PreviewVersion:
    flickers = [value for one in measured for value in one.flicker]
    sharpness = [value for one in measured for value in one.sharpness]
    of_shot = models.shot_seconds[way.quality]
    training = {"shot": of_shot * (survey.num_shots or 1), "smi": models.keyframe_seconds}
    return PreviewVersion(
        label=label,
        role=Role.ENLARGED if label == "bicubic" else Role.RESULT,
        options=options,
        flicker=fmean(flickers) if flickers else None,
        sharpness=fmean(sharpness) if sharpness else None,
        seconds_per_megapixel=fmean(one.seconds_per_megapixel for one in measured),
        training_seconds=training.get(way.policy, 0.0),
    )


def _empty_sample(survey: Survey, excerpt: Excerpt, scale: float) -> MomentFrames:
    """Choose what a page shows of an excerpt, by the source, so that all ways show the same."""
    height, width = scaled_size(excerpt.window.height, excerpt.window.width, scale)
    middle = excerpt.frames[len(excerpt.frames) // 2]
    first = excerpt.frames[0]
    number = first.index
    if not survey.is_whole:
        number = round(first.seconds * float(survey.info.average_rate or 25))
    count = len(excerpt.frames)

    def enlarged(side_px: tuple[int, int]) -> Box:
        rows, columns = (max(1, round(side / scale)) for side in side_px)
        box = busiest_box(excerpt.interest, rows, columns)
        top, left = round(box.top * scale), round(box.left * scale)
        tall, wide = min(side_px[0], height), min(side_px[1], width)
        return Box(min(top, height - tall), min(left, width - wide), tall, wide)

    loop = enlarged((CROP_PX, CROP_PX))
    column = busiest_column(excerpt.interest, max(1, round(CROP_PX / scale)))
    line = min(width - 1, round(column.left * scale))
    return MomentFrames(
        Moment(
            number + middle.index - first.index,
            range(number, number + count),
            range(number, number + count),
            excerpt.reason,
        ),
        seconds=middle.seconds,
        box=loop,
        column=Box(min(round(column.top * scale), height - loop.height), line, loop.height, 1),
        shown=enlarged((MAX_HEIGHT_PX, MAX_WIDTH_PX)),
        loops=np.full((NUM_VERSIONS, count, loop.height, loop.width, 3), 128, np.uint8),
        slices=np.full((NUM_VERSIONS, loop.height, count, 3), 128, np.uint8),
    )


def _store(sample: MomentFrames, place: int, pictures: Sequence[torch.Tensor]) -> None:
    """Keep what the page shows of one version."""
    for number, picture in enumerate(pictures):
        image = to_rgb_image(picture)
        sample.loops[place, number] = sample.box.of(image)
        sample.slices[place, :, number] = sample.column.of(image)[:, 0]
        if number == len(pictures) // 2:
            sample.pictures.append(np.ascontiguousarray(sample.shown.of(image)))


def seconds_to_encode(pictures: Sequence[np.ndarray], folder: Path) -> float:
    """Measure the time that the default encoder takes for a megapixel of such pictures, uint8
    (H, W, 3)."""
    height, width = (side - side % 2 for side in pictures[0].shape[:2])
    began = perf_counter()
    with av.open(str(folder / "sample.mkv"), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        for picture in pictures:
            part = np.ascontiguousarray(picture[:height, :width])
            output.mux(video.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        output.mux(video.encode(None))
    return float(1e6 * (perf_counter() - began) / (len(pictures) * height * width))
