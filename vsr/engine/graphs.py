"""Per-frame work on a GPU as one CUDA graph, and the fastest of several ways to the same picture.

Steps on small pictures are over before the next is launched; a graph launches all of them at once.
"""

import gc
from collections.abc import Callable, Hashable, Mapping
from time import perf_counter

import torch

from vsr.errors import ModelError

Upscale = Callable[[torch.Tensor], torch.Tensor]
"""(3, h, w) in [0, 1] -> (3, H, W)."""
EAGER_TOLERANCE = 1e-3
"""Largest difference, a quarter of a gray level, between two variants' results."""
PROBE_ROUNDS = 3
"""Tries of each variant, the fastest of which counts."""
MIN_SPEEDUP = 1.1
"""Least speed of a variant, relative to the first one, at which it is preferred."""


class Autotuner:
    """Chooser of the variant of a computation that a GPU runs fastest; its choice is kept until the
    models or the size change."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._found: tuple[Upscale, str] | None = None

    def find(
        self, variants: Mapping[str, Upscale], picture: torch.Tensor, key: Hashable
    ) -> tuple[Upscale, str]:
        """Call `select_fastest`, or return its last result if `key` is unchanged. `key` must cover
        all that `variants` depend on."""
        key = (key, picture.shape)
        if self._found is None or key != self._key:
            # Graphs hold memory: one at a time.
            self._found = None
            self._key, self._found = key, select_fastest(variants, picture)
        return self._found


def select_fastest(variants: Mapping[str, Upscale], picture: torch.Tensor) -> tuple[Upscale, str]:
    """Choose, of variants with the same result, the one that enlarges pictures of this size
    fastest; return it and a note for the user.

    On a GPU each becomes a graph where that works, and the first is taken unless another agrees
    with it and is `MIN_SPEEDUP` times as fast. On a CPU it is the first as it is: nothing is tried
    there.
    """
    (usual, first), *others = variants.items()
    chosen, note = capture_graph(first, picture)
    if not picture.is_cuda or not others:
        return chosen, note
    name, best, expected = usual, _seconds(chosen, picture), chosen(picture)
    for other, upscale in others:
        try:
            candidate, remark = capture_graph(upscale, picture)
            seconds, agrees = _seconds(candidate, picture), is_close(candidate(picture), expected)
        except torch.OutOfMemoryError:
            # A variant that runs out of memory is skipped; the first one halves its pieces instead.
            torch.cuda.empty_cache()
            continue
        if agrees and seconds * MIN_SPEEDUP < best:
            chosen, note, name, best = candidate, remark, other, seconds
    return chosen, f"{name}, {note}"


def capture_graph(upscale: Upscale, picture: torch.Tensor) -> tuple[Upscale, str]:
    """Record `upscale` of pictures of this size as one CUDA graph; return it and a note for the
    user, or `upscale` itself on a CPU and where that fails.

    The graph must agree with `upscale` on two pictures. Its results are the caller's own; it raises
    `ModelError` for values that are not finite.
    """
    if not picture.is_cuda:
        return upscale, ""
    try:
        replay = _capture(upscale, picture)
        # The second picture is not the one that was recorded: a value that was read on the host
        # and became part of the graph would show.
        if all(is_close(replay(each), upscale(each)) for each in (picture, picture.flip(-1))):
            return _with_finite_check(replay), "as a CUDA graph"
        reason = "it gives another picture"
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        reason = "it does not fit into memory"
    except RuntimeError as error:
        # An operation that may not be captured is an error of CUDA's, for which torch has no class.
        reason = str(error).splitlines()[0]
    return upscale, f"without a CUDA graph: {reason}"


def _capture(upscale: Upscale, picture: torch.Tensor) -> Upscale:
    # A graph reads and writes fixed memory: pictures are copied in and out.
    given = picture.clone()
    aside = torch.cuda.Stream(picture.device)
    aside.wait_stream(torch.cuda.current_stream(picture.device))
    # Tables of the resampling are made and cuDNN chooses its kernels outside of the graph.
    with torch.cuda.stream(aside):
        for _ in range(2):
            upscale(given)
    torch.cuda.current_stream(picture.device).wait_stream(aside)
    # A tensor that is freed while the graph is recorded would break it.
    gc.collect()
    graph = torch.cuda.CUDAGraph()
    # Other threads decode and encode meanwhile, and may use the GPU.
    with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
        made = upscale(given)

    def replay(other: torch.Tensor) -> torch.Tensor:
        given.copy_(other)
        graph.replay()
        return made.clone()

    return replay


def is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two pictures are the same to the eye."""
    return torch.allclose(one, other, atol=EAGER_TOLERANCE, rtol=0)


def _with_finite_check(upscale: Upscale) -> Upscale:
    def checked(picture: torch.Tensor) -> torch.Tensor:
        made = upscale(picture)
        # Once a frame, when all its work has been launched: reading waits for the GPU.
        if not torch.isfinite(made.sum()):
            raise ModelError(
                "a model gave values that are not finite: it is broken. Train it again or choose "
                "another."
            )
        return made

    return checked


def _seconds(upscale: Upscale, picture: torch.Tensor) -> float:
    taken = []
    for _ in range(PROBE_ROUNDS):
        # Launching returns at once: the clock must wait for the GPU on both sides.
        torch.cuda.synchronize(picture.device)
        start = perf_counter()
        upscale(picture)
        torch.cuda.synchronize(picture.device)
        taken.append(perf_counter() - start)
    return min(taken)
