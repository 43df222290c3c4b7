"""Nodes for ComfyUI: upscale a video file, steady upscaled pictures, score a result."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
