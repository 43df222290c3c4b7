"""A GPU that is none: its tensors lie in main memory, but say `cuda:0`, and refuse to be mixed with
the CPU's.

What forgets to bring a tensor to the device fails as it would on a GPU, without one. Streams and
graphs fail as well, and there is no `backward`. It leans on parts of torch that are not public.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
transfers: list[tuple[str, tuple[int, ...]]] = []
"""What was copied to the GPU (`up`) and to main memory (`down`) since it was opened: its shape."""
MAY_MIX = ("aten::copy_", "aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_")
"""Indices may lie in main memory, and copies go from one to the other."""


class OnGpu(torch.Tensor):
    """A tensor of the pretended GPU."""

    def __new__(cls, held):
        # Of a tensor that was made in inference mode no view could be taken outside.
        with torch.inference_mode(False):
            shape = torch.empty_strided(held.size(), held.stride(), dtype=held.dtype, device="meta")
            return torch.Tensor._make_subclass(
                cls, shape, False, dispatch_device=True, device_for_backend_keys=GPU
            )

    def __init__(self, held):
        self.held = held

    def data_ptr(self):
        """Its place in memory, by which caches know a tensor."""
        return self.held.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return _dispatch(operator, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    """Makes what is asked for on the GPU."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return _dispatch(operator, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Within it there is a GPU, in all threads that are started there."""
    run_thread = threading.Thread.run
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()

    def run(thread):
        with _Dispatch():
            run_thread(thread)

    torch._C._ensureCUDADeviceGuardSet()
    transfers.clear()
    # Modules would else exchange the storage of their parameters.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with pytest.MonkeyPatch.context() as patch, _Dispatch():
        patch.setattr(threading.Thread, "run", run)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "synchronize", lambda *_: None)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        # It goes around the dispatcher.
        patch.setattr(
            torch.Tensor,
            "new_tensor",
            lambda self, data: torch.tensor(data, dtype=self.dtype).to(self.device),
        )
        try:
            yield GPU
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


def _dispatch(operator, args, kwargs):
    if operator is torch.ops.prim.device.default:
        return GPU
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, OnGpu)]
    others = [tensor for tensor in tensors if not isinstance(tensor, OnGpu) and tensor.dim() > 0]
    name = operator.name()
    if ours and others and not name.startswith(MAY_MIX) and "shallow_copy" not in name:
        raise RuntimeError(
            f"{operator} of tensors on the GPU and on the CPU: "
            f"{[tuple(one.shape) for one in others]}"
        )
    is_on_gpu = bool(ours)
    if kwargs.get("device") is not None:
        is_on_gpu = torch.device(kwargs["device"]).type == "cuda"
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if name.startswith("aten::copy_"):
        is_on_gpu = isinstance(args[0], OnGpu)
    if name.startswith(("aten::copy_", "aten::_to_copy")):
        source = args[1 if name.startswith("aten::copy_") else 0]
        if isinstance(source, OnGpu) != is_on_gpu:
            transfers.append(("up" if is_on_gpu else "down", tuple(source.shape)))
    made = operator(*tree_map(_held, args), **tree_map(_held, kwargs))
    if not is_on_gpu:
        return made
    # What is changed in place stays the tensor that it was.
    known = {id(tensor.held): tensor for tensor in ours}

    def wrapped(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else OnGpu(leaf)

    return tree_map(wrapped, made)


def _held(leaf):
    return leaf.held if isinstance(leaf, OnGpu) else leaf
