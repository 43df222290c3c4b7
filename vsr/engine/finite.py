"""Values that are not finite, which a broken model gives."""

import torch

from vsr.errors import ModelError


def check_finite(detail: torch.Tensor, model: str) -> None:
    """Raise `ModelError` where a value of `model`'s `detail` is not finite.

    While a CUDA graph is recorded nothing can be read: then all of `detail` becomes NaN in such a case, which no limit
    takes away, and who runs the graph looks for that.
    """
    # One value that is not finite makes the sum so.
    total = detail.sum()
    if detail.is_cuda and torch.cuda.is_current_stream_capturing():
        detail += 0 * total
    elif not torch.isfinite(total):
        raise ModelError(f"{model} gave values that are not finite: it is broken. Train it again or choose another.")
