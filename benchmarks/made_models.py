"""Small banks, for benchmarks and tests: trained for a moment, for real."""

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.made_clips import textured_picture
from vsr.models.bank import Model, ModelCard, load_model, save_model
from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec
from vsr.models.networks.singan import NetworkSpec
from vsr.models.shot_model import ARCH, ShotCard, ShotModel
from vsr.train.keyframe import keyframe_hash
from vsr.train.methods.quick import QuickOptions, train_quick

BRIEF = QuickOptions(network=NetworkSpec(width=8), iterations=30, crop_px=24)


def picture(height: int = 40, width: int = 48, seed: int = 0) -> torch.Tensor:
    """A textured picture, float32 (3, H, W) in [0, 1]."""
    return (
        torch.from_numpy(textured_picture(height, width, seed=seed)).permute(2, 0, 1).float() / 255
    )


def card_of(keyframe: torch.Tensor, **changes) -> ModelCard:
    card = ModelCard(
        arch="singan-single-scale",
        network=BRIEF.network,
        scale_factors=(BRIEF.step_ratio, BRIEF.step_ratio),
        noise_amplitude=0.0,
        recipe="quick",
        seed=0,
        clip="clip.mkv",
        clip_identity="",
        keyframe=0,
        keyframe_hash=keyframe_hash(keyframe),
        frame_time=0.0,
        shot_start_seconds=0.0,
        shot_end_seconds=1.0,
        critic_mean=0.0,
        critic_std=1.0,
        loss_curve=(0.1, 0.05),
        version="0",
    )
    return replace(card, **changes)


def make_model(folder: Path, name: str, keyframe: torch.Tensor, seed: int = 0, **changes) -> Model:
    """Train a brief model on `keyframe`, save it in `folder` and read it back."""
    folder.mkdir(exist_ok=True)
    pair = train_quick(keyframe, BRIEF, seed, lambda *_: None)
    with torch.inference_mode():
        scores = pair.critic((2 * keyframe - 1)[None])
    card = card_of(
        keyframe,
        seed=seed,
        critic_mean=float(scores.mean()),
        critic_std=float(scores.std()),
        **changes,
    )
    path = folder / f"{name}.safetensors"
    save_model(path, card, pair.generator, pair.critic)
    return load_model(path)


def make_shot_model(name="shot-model", seed=0):
    """A shot model of two small, untrained window networks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = tuple(
            ShotNetwork(ShotNetworkSpec(1, 8, 3)).eval().requires_grad_(False) for _ in range(2)
        )
    card = ShotCard(
        ARCH, networks[0].spec, (1, 1), seed, "clip.mkv", "", 0, 9, 0.0, 1.0, 10, (0.1,), "0"
    )
    return ShotModel(name, card, networks)
