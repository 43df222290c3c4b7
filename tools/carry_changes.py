r"""Carries the changes for compressed shots over to new networks for clean shots.

    python -m tools.carry_changes NEW OLD -o vsr/models/priors/shot.safetensors

NEW is a prior without changes, of the shapes of OLD, which has some. The result restores clean
shots as NEW does, and shots of a quantizer between two knots as OLD does, within the rounding of
half precision.
"""

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import torch

from vsr.files import write_atomically
from vsr.models.networks.modulated import ModulatedShotNetwork
from vsr.models.networks.shot_network import ShotNetwork
from vsr.models.prior import Prior, encode_prior, load_prior


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    write_atomically(given.output, carry(load_prior(given.new), load_prior(given.old)))


def carry(new: Prior, old: Prior) -> bytes:
    """Return the content of a prior's file with the networks of `new` for clean shots and those of
    `old` for compressed ones."""
    assert old.modulated is not None, f"{old.path} has no changes to carry over"
    first, second = (
        _carried(network, changed)
        for network, changed in zip(new.networks, old.modulated, strict=True)
    )
    changes = old.card.training["changes"] | {"carried_over_from": old.name}
    training = new.card.training | {"start": new.name, "changes": changes}
    return encode_prior(replace(old.card, training=training), (first, second))


@torch.no_grad()
def _carried(clean: ShotNetwork, changed: ModulatedShotNetwork) -> ModulatedShotNetwork:
    made = copy.deepcopy(changed).float()
    for layer, changes, own in zip(made.body, made.changes, clean.body, strict=True):
        tensors = layer.parameters(), changes.parameters(), own.parameters()
        for kept, change, wanted in zip(*tensors, strict=True):
            # As the file will hold it: the changes make up for its rounding as well.
            rounded = wanted.half().float()
            change.add_(kept - rounded)
            kept.copy_(rounded)
    return made


if __name__ == "__main__":
    main()
