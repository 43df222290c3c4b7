"""Networks as modules of torch, and their copies on other devices."""

import copy
import threading
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)
_COPIES: WeakKeyDictionary[nn.Module, dict[torch.device, nn.Module]] = WeakKeyDictionary()
"""By the network that was copied; a copy goes when its original does."""
_LOCK = threading.Lock()


def on_device(network: Network, device: torch.device) -> Network:
    """Return a trained network itself where it lies on `device`, else its copy there, which is made
    once.

    `nn.Module.to` would move the network itself, under the hands of everybody else who holds it.
    Changes to the network after its first copy do not reach the copies.
    """
    if next(network.parameters()).device == device:
        return network
    with _LOCK:
        copies = _COPIES.setdefault(network, {})
        if device not in copies:
            # A copy made in inference mode could not be used outside of it.
            with torch.inference_mode(False):
                copies[device] = copy.deepcopy(network).to(device)
        found = copies[device]
    assert isinstance(found, type(network))
    return found
