"""Checkpoints of others: everything that spandrel recognizes, and the classic networks that it does
not know."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from vsr.errors import ModelError
from vsr.models.safetensors import read_tensors
from vsr.upscale.networks.classics import CLASSICS, ClassicNetwork, StateDict
from vsr.upscale.networks.network import (
    FULL_RANGE,
    UpscalingNetwork,
    count_parameters,
    prepare_for_inference,
)

MAX_UNPACKED_BYTES = 2 * 2**30
MAX_LAYERS = 4096
"""Layers of one kind, by the numbers in the names of tensors; the largest published networks have
some hundreds."""
_UNREADABLE = (
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    ImportError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""Errors of a damaged or foreign file: they depend on where its bytes go wrong."""


def read_third_party(path: Path, device: torch.device, dtype: torch.dtype) -> UpscalingNetwork:
    """Read a network and make it ready on `device`, in `dtype` or, where its architecture is known
    not to bear that, in float32.

    Raises `ModelError` for a file that cannot be read, is broken, or holds no network that is
    known."""
    state = _read_state(path)
    for classic in CLASSICS:
        if classic.fits(state):
            return _from_classic(path, classic, state, device, dtype)
    return _from_spandrel(path, state, device, dtype)


def _read_state(path: Path) -> StateDict:
    """Read the tensors of a checkpoint, out of the tables that training programs wrap around
    them."""
    if path.suffix.lower() == ".safetensors":
        stored: Any = read_tensors(path)[1]
    else:
        try:
            _check_unpacked_size(path)
            stored = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise ModelError(
                f"the upscaler {path} cannot be read: {error.strerror or error}."
            ) from None
        except _UNREADABLE as error:
            raise ModelError(
                f"{path} is not a readable checkpoint of tensors alone ({_reason(error)}); nothing "
                "in it was run. Get it again, or as .safetensors."
            ) from None
    if isinstance(stored, dict):
        # Takes the tensors out of "params_ema", "state_dict" and the like.
        from spandrel import canonicalize_state_dict

        stored = canonicalize_state_dict(stored)
    if (
        not isinstance(stored, dict)
        or not stored
        or not all(torch.is_tensor(value) for value in stored.values())
    ):
        raise ModelError(
            f"{path} holds {_kind(stored)}; expected the tensors of one network (a state_dict)."
        )
    if beyond := next(
        (name for name in map(str, stored) if _largest_number(name) > MAX_LAYERS), None
    ):
        raise ModelError(
            f"{path}: its tensor {beyond[:80]!r} would belong to more than {MAX_LAYERS} layers."
        )
    for name, tensor in stored.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"{path}: tensor {name} holds values that are not finite; get the file again."
            )
    return {str(name): tensor for name, tensor in stored.items()}


def _check_unpacked_size(path: Path) -> None:
    """Raise ModelError where a checkpoint unpacks to too much."""
    size = path.stat().st_size
    # Older checkpoints are plain pickles, which are not compressed.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    if size > MAX_UNPACKED_BYTES:
        raise ModelError(
            f"{path} unpacks to {size} bytes; an upscaler has at most {MAX_UNPACKED_BYTES}."
        )


def _largest_number(name: str) -> int:
    """Find the largest number in a tensor's name, by which spandrel tells how many layers there
    are."""
    # 18 digits: a hostile name must not make a huge number.
    return max((int(number[:18]) for number in re.findall(r"\d+", name)), default=0)


def _from_spandrel(
    path: Path, state: StateDict, device: torch.device, dtype: torch.dtype
) -> UpscalingNetwork:
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    first = next(iter(state))
    try:
        found = ModelLoader(device).load_from_state_dict(dict(state))
    except UnsupportedModelError:
        raise ModelError(
            f"{path} holds {len(state)} tensors, the first named {first}: no architecture that is "
            "known here has them. Expected a network that spandrel recognizes, FSRCNN, ESPCN, "
            "SRCNN, or one of vsr train."
        ) from None
    # A file that looks like a known architecture and is none can fail anywhere in that
    # architecture's code.
    except Exception as error:
        raise ModelError(
            f"{path} looks like a network that is known, but its tensors do not fit together "
            f"({_first_line(error)}). It may be of another version; get it again."
        ) from None
    if not isinstance(found, ImageModelDescriptor):
        raise ModelError(
            f"{path} is {found.architecture.name}, which fills holes under a mask; expected an "
            "upscaler."
        )
    inputs, outputs = found.input_channels, found.output_channels
    if inputs != outputs or inputs not in {1, 3}:
        raise ModelError(
            f"{path} takes {inputs} channels and gives {outputs}; expected 3 and 3, or 1 and 1."
        )
    bears = {torch.float16: found.supports_half, torch.bfloat16: found.supports_bfloat16}.get(
        dtype, True
    )
    computes_in = dtype if bears else torch.float32
    prepare_for_inference(found.model, device, computes_in)
    return UpscalingNetwork(
        name=path.stem,
        arch=found.architecture.name,
        scale=found.scale,
        run=found,
        num_parameters=count_parameters(found.model),
        luma=FULL_RANGE if inputs == 1 else None,
        dtype=computes_in,
    )


def _from_classic(
    path: Path, classic: ClassicNetwork, state: StateDict, device: torch.device, dtype: torch.dtype
) -> UpscalingNetwork:
    try:
        spec, network = classic.build(path, state)
    except (RuntimeError, KeyError, IndexError, ValueError) as error:
        raise ModelError(
            f"{path} looks like {classic.arch}, but its tensors do not fit together "
            f"({_first_line(error)}); get the file again."
        ) from None
    prepare_for_inference(network, device, dtype)
    return UpscalingNetwork(
        name=path.stem,
        arch=classic.arch,
        scale=spec.scale,
        run=network,
        num_parameters=count_parameters(network),
        luma=classic.luma,
        enlarged_first=classic.enlarged_first,
        receptive_radius_px=spec.receptive_radius_px,
        remark=classic.remark,
        dtype=dtype,
    )


def _reason(error: Exception) -> str:
    """Say why a file cannot be read; not in torch's words where these tell how to load the file all
    the same, which would run what is in it."""
    if not isinstance(error, pickle.UnpicklingError):
        return _first_line(error)
    stranger = re.search(r"GLOBAL (\S+) was not", str(error))
    return (
        f"it holds {stranger[1]}, which is no tensor" if stranger else "it is not what torch writes"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def _kind(stored: object) -> str:
    return "nothing" if stored == {} else f"a {type(stored).__name__}"
