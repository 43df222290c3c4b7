"""Colour conversion against libswscale, ITU-T H.273 in closed form, and itself both ways."""

import av
import numpy as np
import pytest
import torch

import vsr
from vsr.video.color import (
    from_rgb,
    interleave_chroma,
    read_channels,
    resolve_matrix,
    to_rgb,
    write_channels,
)
from vsr.video.frames import ColorDescription
from vsr.video.pixel_layouts import LAYOUTS, nearest_format

BARS = np.array(
    [
        [1, 1, 1],
        [1, 1, 0],
        [0, 1, 1],
        [0, 1, 0],
        [1, 0, 1],
        [1, 0, 0],
        [0, 0, 1],
        [0, 0, 0],
        [0.5, 0.5, 0.5],
    ]
)
BAR_WIDTH = 16

BT601, BT709, BT2020 = 6, 1, 9

KR_KB = {BT601: (0.299, 0.114), BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}


def bars_in_codes(matrix: int, bits: int, full_range: bool, level: float = 0.75) -> np.ndarray:
    """Colour bars as rounded Y Cb Cr codes (3, bars), straight from H.273."""
    red_weight, blue_weight = KR_KB[matrix]
    rgb = BARS * level
    luma = (
        red_weight * rgb[:, 0]
        + (1 - red_weight - blue_weight) * rgb[:, 1]
        + blue_weight * rgb[:, 2]
    )
    blue = (rgb[:, 2] - luma) / (2 * (1 - blue_weight))
    red = (rgb[:, 0] - luma) / (2 * (1 - red_weight))
    top, half = 2**bits - 1, 2 ** (bits - 1)
    if full_range:
        codes = np.stack([top * luma, top * blue + half, top * red + half])
    else:
        codes = np.stack([219 * luma + 16, 224 * blue + 128, 224 * red + 128]) * 2 ** (bits - 8)
    return np.clip(np.rint(codes), 0, top)


def planes_of_bars(layout, matrix, full_range, height=8):
    planes = []
    for channel, codes in enumerate(bars_in_codes(matrix, layout.bits, full_range)):
        columns = BAR_WIDTH // (layout.chroma_columns if channel else 1)
        rows = height // (layout.chroma_rows if channel else 1)
        plane = np.repeat(codes, columns)[None].repeat(rows, axis=0)
        planes.append(torch.from_numpy(plane.astype(np.uint8 if layout.bits == 8 else np.uint16)))
    return planes


def away_from_edges(plane: torch.Tensor, bar_width: int) -> np.ndarray:
    """The middle columns of every bar."""
    values = plane.numpy().astype(int)
    return values.reshape(values.shape[0], -1, bar_width)[:, :, bar_width // 4 : -bar_width // 4]


@pytest.mark.parametrize("matrix", [BT601, BT709, BT2020])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(
    "name",
    ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le"],
)
def test_colour_bars_survive_both_ways_within_one_code_value(name, full_range, matrix):
    layout = LAYOUTS[name]
    planes = planes_of_bars(layout, matrix, full_range)
    back = from_rgb(to_rgb(planes, layout, matrix, full_range), layout, matrix, full_range)
    for channel, (before, after) in enumerate(zip(planes, back, strict=True)):
        width = BAR_WIDTH // (layout.chroma_columns if channel else 1)
        assert np.abs(away_from_edges(after, width) - away_from_edges(before, width)).max() <= 1


@pytest.mark.parametrize("matrix", [BT601, BT709, BT2020])
@pytest.mark.parametrize(
    ("name", "full_range"), [("yuv444p", False), ("yuv444p", True), ("yuv420p10le", False)]
)
def test_codes_from_the_standard_give_the_rgb_they_stand_for(name, full_range, matrix):
    layout = LAYOUTS[name]
    rgb = to_rgb(planes_of_bars(layout, matrix, full_range), layout, matrix, full_range)
    expected = torch.from_numpy(BARS.T * 0.75)[:, :, None]
    middle = rgb.reshape(3, 8, len(BARS), BAR_WIDTH)[:, 4, :, 4:12]
    assert (middle - expected).abs().max() < 1.6 / 2 ** (layout.bits - 1)


def test_grey_stays_neutral_in_every_yuv_format():
    ramp = torch.linspace(0, 1, 64).expand(3, 16, 64).contiguous()
    for name in ("yuv420p", "yuv422p10le", "yuv444p"):
        for full_range in (False, True):
            layout = LAYOUTS[name]
            channels = from_rgb(ramp, layout, BT709, full_range)
            neutral = 2 ** (layout.bits - 1)
            assert channels[1].unique().tolist() == channels[2].unique().tolist() == [neutral]
            back = to_rgb(channels, layout, BT709, full_range)
            assert (back - back.mean(dim=0)).abs().max() < 1e-6


@pytest.mark.parametrize(
    "name", ["rgb24", "bgr0", "gbrp", "gbrp10le", "gbrp12le", "rgb48le", "rgb48be", "rgba"]
)
def test_rgb_formats_are_lossless(name):
    layout = LAYOUTS[name]
    codes = torch.randint(0, 2**layout.bits, (3, 6, 10), generator=torch.Generator().manual_seed(0))
    channels = from_rgb(codes.float() / (2**layout.bits - 1), layout, BT709, True)
    read = read_channels(write_channels(channels, name), layout)
    assert torch.equal(torch.stack([channel.int() for channel in read]), codes.int())


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_samples_written_into_a_frame_are_read_back(name):
    layout = LAYOUTS[name]
    rgb = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(1))
    channels = from_rgb(rgb, layout, BT709, False)
    read = read_channels(write_channels(channels, name), layout)
    assert all(torch.equal(a.int(), b.int()) for a, b in zip(channels, read, strict=True))


@pytest.mark.parametrize(
    "name",
    ["rgb24", "bgr0", "gbrp", "rgba", "argb", "0rgb", "gray", "gbrp10le", "rgb48be", "gray16be"],
)
def test_channel_order_is_that_of_libswscale(name):
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    if name.startswith("gray"):
        picture[:] = picture[:, :, :1]
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=name)
    rgb = to_rgb(read_channels(frame, LAYOUTS[name]), LAYOUTS[name], BT709, True)
    assert np.abs(rgb.permute(1, 2, 0).numpy() * 255 - picture).max() < 1.1


@pytest.mark.parametrize(("matrix", "libav_name"), [(BT601, "ITU601"), (BT709, "ITU709")])
def test_conversion_agrees_with_libswscale_on_a_smooth_picture(matrix, libav_name):
    rows, columns = np.mgrid[0:64, 0:96]
    picture = np.stack([60 + rows, 200 - columns, 80 + rows + columns // 2], axis=2).astype(
        np.uint8
    )
    theirs = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv444p", dst_colorspace=libav_name, src_color_range="JPEG", dst_color_range="MPEG"
    )
    ours = from_rgb(
        torch.from_numpy(picture).permute(2, 0, 1).float() / 255, LAYOUTS["yuv444p"], matrix, False
    )
    for mine, other in zip(ours, read_channels(theirs, LAYOUTS["yuv444p"]), strict=True):
        assert (mine.int() - other.int()).abs().max() <= 1


def test_chroma_sits_on_the_left_luma_column():
    ramp = torch.arange(32.0).expand(16, 32) / 64
    blue_ramp = torch.stack([torch.zeros_like(ramp), torch.zeros_like(ramp), ramp])
    full = from_rgb(blue_ramp, LAYOUTS["yuv444p16le"], BT709, False)[1].int()
    half = from_rgb(blue_ramp, LAYOUTS["yuv422p16le"], BT709, False)[1].int()
    assert (half[:, 1:-1] - full[:, 2:-2:2]).abs().max() <= 1


def test_a_linear_chroma_ramp_is_restored_exactly_inside():
    layout = LAYOUTS["yuv420p16le"]
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    picture = torch.stack([0.5 + 0 * rows, 0.4 + rows / 200, 0.3 + columns / 200])
    back = to_rgb(from_rgb(picture, layout, BT709, False), layout, BT709, False)
    assert (back - picture)[:, 2:-2, 2:-2].abs().max() < 2e-4


def test_odd_sides_keep_their_size():
    for name in ("yuv420p", "yuv422p10le", "nv12"):
        layout = LAYOUTS[name]
        rgb = torch.full((3, 7, 9), 0.25)
        channels = from_rgb(rgb, layout, BT601, False)
        assert channels[1].shape == (-(-7 // layout.chroma_rows), 5)
        assert (to_rgb(channels, layout, BT601, False) - rgb).abs().max() < 0.01


def test_an_untagged_matrix_goes_by_height_and_a_tag_wins():
    assert resolve_matrix(ColorDescription(), 576) == BT601
    assert resolve_matrix(ColorDescription(), 577) == BT709
    assert resolve_matrix(ColorDescription(matrix=BT2020), 100) == BT2020
    assert resolve_matrix(ColorDescription(matrix=0), 1080) == BT709


def test_formats_that_are_not_converted_here_have_a_near_one():
    assert nearest_format("uyvy422") == "yuv422p"
    assert nearest_format("y210le") == "yuv422p10le"
    assert LAYOUTS[nearest_format("pal8")].is_rgb


@pytest.mark.parametrize("name", ["nv12", "p010le"])
def test_planes_for_a_hardware_encoder_are_those_of_the_frame(name):
    layout = LAYOUTS[name]
    rgb = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(1))
    channels = from_rgb(rgb, layout, BT709, False)
    handed_over = av.VideoFrame.from_dlpack(interleave_chroma(channels, layout), format=name)
    for ours, theirs in zip(read_channels(handed_over, layout), channels, strict=True):
        assert torch.equal(ours.int(), theirs.int())


def bars_clip(path, pixel_format, matrix, full_range, transfer=2):
    """Three frames of the bars, their codes written straight from the standard."""
    layout = LAYOUTS[pixel_format]
    planes = planes_of_bars(layout, matrix, full_range, height=16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = len(BARS) * BAR_WIDTH, 16, pixel_format
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = matrix, matrix, transfer
        context.color_range = 2 if full_range else 1
        for _ in range(3):
            out.mux(stream.encode(write_channels(planes, pixel_format)))
        out.mux(stream.encode(None))
    return path


def check_bars_through_a_run(
    tmp_path, pixel_format, matrix, full_range, scale, codec="ffv1", transfer=2
):
    clip = bars_clip(tmp_path / "bars.mkv", pixel_format, matrix, full_range, transfer)
    out = tmp_path / "out.mkv"
    vsr.run(clip, out, policy="bicubic", scale=scale, metrics=(), codec=codec)
    with av.open(str(out)) as result:
        frame = list(result.decode(video=0))[1]
    assert (frame.format.name, frame.colorspace, frame.color_range) == (
        pixel_format,
        matrix,
        2 if full_range else 1,
    )
    assert (frame.color_trc, frame.color_primaries) == (transfer, matrix)
    layout = LAYOUTS[pixel_format]
    expected = bars_in_codes(matrix, layout.bits, full_range)
    for channel, plane in enumerate(read_channels(frame, layout)):
        width = scale * BAR_WIDTH // (layout.chroma_columns if channel else 1)
        middle = away_from_edges(plane, width)
        assert np.abs(middle - expected[channel][None, :, None]).max() <= 1


# Every pixel format with each matrix and range would take a while: the fast test takes each once.
EACH_ONCE = [
    ("yuv420p", BT601, False),
    ("yuv422p", BT709, True),
    ("yuv444p", BT2020, False),
    ("yuv420p10le", BT2020, False),
    ("yuv422p10le", BT601, True),
    ("yuv444p10le", BT709, False),
]


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(("pixel_format", "matrix", "full_range"), EACH_ONCE)
def test_colour_bars_go_through_a_run_within_one_code_value(
    tmp_path, pixel_format, matrix, full_range, scale
):
    check_bars_through_a_run(tmp_path, pixel_format, matrix, full_range, scale)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("matrix", [BT601, BT709, BT2020])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixel_format", [name for name, _, _ in EACH_ONCE])
def test_all_colour_bars_go_through_a_run_within_one_code_value(
    tmp_path, pixel_format, matrix, full_range, scale
):
    check_bars_through_a_run(tmp_path, pixel_format, matrix, full_range, scale)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_bars_stay_hdr(tmp_path, transfer):
    check_bars_through_a_run(tmp_path, "yuv420p10le", BT2020, False, 2, transfer=transfer)


def test_bars_of_ycgco_and_of_a_matrix_that_is_not_converted_go_through_under_their_own_name(
    tmp_path,
):
    for matrix in (8, 14):
        layout = LAYOUTS["yuv444p"]
        planes = planes_of_bars(layout, BT601, True)
        if matrix == 8:
            red, green, blue = BARS.T * 0.75
            codes = np.stack(
                [(red + 2 * green + blue) / 4, (2 * green - red - blue) / 4, (red - blue) / 2]
            )
            codes = np.rint(codes * 255 + np.array([[0], [128], [128]]))
            planes = [
                torch.from_numpy(
                    np.repeat(plane, BAR_WIDTH)[None].repeat(8, axis=0).astype(np.uint8)
                )
                for plane in codes
            ]
            rgb = to_rgb(planes, layout, 8, True)
            expected = torch.from_numpy(np.repeat(BARS.T * 0.75, BAR_WIDTH, axis=1)).float()
            assert (rgb[:, 4] - expected).abs().max() < 2 / 255
        clip = tmp_path / f"{matrix}.mkv"
        with av.open(str(clip), "w") as out:
            stream = out.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = len(BARS) * BAR_WIDTH, 8, "yuv444p"
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2
            out.mux([*stream.encode(write_channels(planes, "yuv444p")), *stream.encode(None)])
        result = tmp_path / f"{matrix}_out.mkv"
        manifest = vsr.run(clip, result, policy="bicubic", scale=1, metrics=(), codec="ffv1")
        with av.open(str(result)) as written:
            (frame,) = written.decode(video=0)
        assert frame.colorspace == matrix
        for before, after in zip(planes, read_channels(frame, layout), strict=True):
            assert (before.int() - after.int()).abs().max() <= 1
        assert any("matrix 14" in note for note in manifest.notes) == (matrix == 14)
