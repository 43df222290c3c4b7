"""What a user ought to know of how the output's format differs from the clip's."""

from vsr.video.color import UNSUPPORTED_MATRICES
from vsr.video.frames import ClipInfo
from vsr.video.pixel_layouts import LAYOUTS, nearest_format
from vsr.video.write.encoders import ENCODERS, VideoPlan


def plan_notes(source: ClipInfo, height: int, width: int, plan: VideoPlan) -> list[str]:
    """Sentences on what the output's format changes."""
    notes = []
    if (plan.height, plan.width) != (height, width):
        notes.append(
            f"{width}x{height} is padded to {plan.width}x{plan.height} by repeating the edge: "
            f"{plan.pixel_format} needs even sides"
        )
    before, after = LAYOUTS[nearest_format(source.pixel_format)], plan.layout
    if before.is_rgb and not after.is_rgb:
        notes.append(f"RGB is written as {plan.pixel_format}: {plan.codec} has no RGB")
    elif (after.bits, -after.chroma_rows, -after.chroma_columns) < (
        before.bits,
        -before.chroma_rows,
        -before.chroma_columns,
    ):
        notes.append(
            f"{source.pixel_format} is written as {plan.pixel_format}: {plan.codec} has no closer "
            "format"
        )
    if plan.matrix != source.color.matrix and not after.is_rgb and not before.is_rgb:
        standard = {1: "BT.709", 9: "BT.2020"}.get(plan.matrix, "BT.601")
        if source.color.matrix in UNSUPPORTED_MATRICES:
            notes.append(
                f"the colour matrix {source.color.matrix} (H.273) is kept; the frames are upscaled "
                f"as {standard}"
            )
        else:
            notes.append(
                f"the clip has no color matrix tag: {standard} is assumed from its height, and "
                "written"
            )
    return [*notes, *_loss_notes(source, plan)]


def _loss_notes(source: ClipInfo, plan: VideoPlan) -> list[str]:
    notes = []
    if LAYOUTS[nearest_format(source.pixel_format)].has_alpha and not plan.layout.has_alpha:
        notes.append(
            f"transparency (alpha) is dropped: {plan.codec} does not keep it here; -c libvpx-vp9 "
            "or ffv1 into .mkv does"
        )
    has_hdr = source.mastering_display is not None or source.light_level is not None
    takes_hdr = plan.codec in ENCODERS and ENCODERS[plan.codec].hdr is not None
    if has_hdr and not takes_hdr:
        notes.append(
            f"HDR mastering and light-level data are dropped: {plan.codec} does not take them; "
            "libx265 does. The colour tags and the depth are kept"
        )
    return notes
