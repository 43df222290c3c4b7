"""The classic networks: numbers of weights, outputs and quality against figures and implementations
of others."""

import cv2
import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from tests.models import picture
from vsr.image.resample import resize
from vsr.models.networks.classic import Espcn, EspcnSpec, Fsrcnn, FsrcnnSpec, Srcnn, SrcnnSpec
from vsr.models.networks.srgan import Discriminator, DiscriminatorSpec, Srresnet, rrdb
from vsr.train.dataset.methods import METHODS
from vsr.train.dataset.trainer import DiscriminatorTrainer
from vsr.upscale.networks.files import load_network
from vsr.upscale.networks.network import apply_network
from vsr.video.reader import open_clip

CPU = torch.device("cpu")
LUMA = torch.tensor([65.481, 128.553, 24.966]) / 255
"""MATLAB's rgb2ycbcr, apart from its offset of 16."""


def weights_in(network):
    """Numbers in the kernels, biases and slopes left out, as papers count."""
    return sum(
        p.numel()
        for name, p in network.named_parameters()
        if name.endswith("weight") and p.ndim > 1
    )


def read_still(path):
    with open_clip(path) as reader:
        return next(iter(reader.frames())).pixels


def psnr_y(one, other, border):
    """As the literature measures: luma of 8-bit colours, borders off."""
    lumas = [torch.einsum("c,chw->hw", LUMA, (p.clamp(0, 1) * 255).round()) for p in (one, other)]
    height, width = lumas[0].shape
    error = (lumas[0] - lumas[1])[border : height - border, border : width - border].square().mean()
    return float(10 * torch.log10(255**2 / error))


def reduced_with_antialiasing(truth, scale):
    low = resize(truth, truth.shape[-2] // scale, truth.shape[-1] // scale)
    return (low.clamp(0, 1) * 255).round() / 255


def reduced_without_antialiasing(truth, scale):
    pixels = (truth * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    size = (truth.shape[-1] // scale, truth.shape[-2] // scale)
    return (
        torch.from_numpy(cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)).permute(2, 0, 1)
        / 255
    )


def cropped(truth, height, width):
    return truth[:, :height, :width]


def gains_on_set5(shared_data, file, reduce, fit=cropped, border=None):
    """(PSNR-Y of the network, of bicubic interpolation), means over Set5; `fit` makes sides
    multiples of the scale."""
    upscaler = load_network(shared_data / "weights" / file, CPU)
    scale, figures = upscaler.scale, []
    for path in sorted((shared_data / "stills" / "set5" / "HR").iterdir()):
        truth = read_still(path)
        height, width = (side - side % scale for side in truth.shape[-2:])
        truth = fit(truth, height, width)
        low = reduce(truth, scale)
        ours, bicubic = apply_network(upscaler, low, height, width), resize(low, height, width)
        left_off = scale if border is None else border
        figures.append((psnr_y(ours, truth, left_off), psnr_y(bicubic, truth, left_off)))
    return np.mean(figures, axis=0)


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (Srcnn(SrcnnSpec((9, 1, 5))), 8_032),
        (Srcnn(SrcnnSpec((9, 3, 5))), 24_416),
        (Srcnn(SrcnnSpec((9, 5, 5))), 57_184),
        (Fsrcnn(FsrcnnSpec(56, 12, 4)), 12_464),
        (Fsrcnn(FsrcnnSpec(32, 5, 1)), 3_937),
    ],
    ids=["srcnn-915", "srcnn-935", "srcnn-955", "fsrcnn", "fsrcnn-s"],
)
def test_a_network_has_the_published_number_of_weights(network, published):
    assert weights_in(network) == published


def test_the_large_networks_have_the_published_number_of_parameters():
    def count(network):
        return sum(parameter.numel() for parameter in network.parameters())

    with torch.device("meta"):
        assert count(Srresnet()) == 1_549_462
        assert count(rrdb()) == 16_697_987
        assert count(Discriminator(DiscriminatorSpec(128))) == 14_502_281


def test_srgans_discriminator_is_the_published_list_of_layers():
    """Eight 3x3 convolutions, the even ones of stride 2; then 1024 features and one logit."""
    options = METHODS["srgan"].options
    trainer = DiscriminatorTrainer(options, options.crop_px, 0, torch.device("cpu"))
    convolutions = [m for m in trainer.network.modules() if isinstance(m, torch.nn.Conv2d)]
    widths = [64, 64, 128, 128, 256, 256, 512, 512]
    assert [(m.out_channels, m.kernel_size, m.stride) for m in convolutions] == [
        (width, (3, 3), (1 + number % 2,) * 2) for number, width in enumerate(widths)
    ]
    inputs = [3, *widths[:-1]]
    expected = sum(9 * i * o + o for i, o in zip(inputs, widths, strict=True))
    # All but the first are normalized, by a weight and a bias a channel; 96 px become 6.
    expected += 2 * sum(widths[1:]) + (512 * 6 * 6 + 1) * 1024 + 1024 + 1
    assert sum(each.numel() for each in trainer.network.parameters()) == expected == 23_565_505


def test_the_shuffle_puts_each_channel_where_the_paper_says():
    network = Espcn(EspcnSpec(scale=3, width=8, inner_width=8)).eval()
    captured = []
    network.conv3.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
    with torch.inference_mode():
        enlarged = network(torch.rand(1, 1, 5, 4))[0, 0]
    for y, x in np.ndindex(15, 12):
        assert enlarged[y, x] == captured[0][0, 3 * (y % 3) + x % 3, y // 3, x // 3]


def test_fsrcnn_reaches_its_published_quality_on_set5(shared_data):
    ours, bicubic = gains_on_set5(shared_data, "fsrcnn_x4.pth", reduced_with_antialiasing)
    assert ours == pytest.approx(30.50, abs=0.1)
    assert bicubic == pytest.approx(28.42, abs=0.05)


@pytest.mark.parametrize(("scale", "published"), [(2, 37.12), (3, 33.22), (4, 30.50)])
def test_fsrcnn_files_reach_their_published_figures_measured_as_their_author_does(
    scale, published, shared_data
):
    """He resizes truths to multiples of the scale, where others crop them, and leaves no border
    off."""
    ours, _ = gains_on_set5(
        shared_data, f"fsrcnn_x{scale}.pth", reduced_with_antialiasing, fit=resize, border=0
    )
    assert ours == pytest.approx(published, abs=0.05)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_scale_of_an_fsrcnn_file_is_found_whatever_its_name_says(scale, shared_data, tmp_path):
    file = shared_data / "weights" / f"fsrcnn_x{scale}.pth"
    for name in ("net.pth", "net_x2.pth", "net_x3.pth", "net_x4.pth"):
        (tmp_path / name).write_bytes(file.read_bytes())
        assert load_network(tmp_path / name, CPU).scale == scale


def test_the_espcn_files_want_inputs_reduced_without_antialiasing(shared_data):
    ours, bicubic = gains_on_set5(shared_data, "espcn_x4.pth", reduced_without_antialiasing)
    assert ours > bicubic + 0.7
    ours, bicubic = gains_on_set5(shared_data, "espcn_x4.pth", reduced_with_antialiasing)
    assert ours < bicubic + 0.1
    assert "antialiasing" in load_network(shared_data / "weights" / "espcn_x4.pth", CPU).remark


def test_espcn_gives_what_its_tensorflow_graph_says(shared_data):
    """OpenCV 5 reads that graph but cannot run it, so scipy does: layer by layer, with OpenCV's
    tensors."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    graph = cv2.dnn.readNetFromTensorflow(str(shared_data / "weights" / "ESPCN_x4.pb"))
    luma = np.random.default_rng(0).random((1, 12, 10))
    features = luma
    for convolution, bias in (("conv1", "add"), ("conv2", "add_1"), ("conv3", "add_2")):
        kernels, biases = (
            graph.getLayer(convolution).blobs[0],
            graph.getLayer(bias).blobs[0].ravel(),
        )
        features = np.stack(
            [
                sum(
                    correlate2d(plane, kernel, mode="same")
                    for plane, kernel in zip(features, each, strict=True)
                )
                + shift
                for each, shift in zip(kernels, biases, strict=True)
            ]
        )
        features = np.maximum(features, 0) if convolution != "conv3" else features
    theirs = np.tanh(features.reshape(4, 4, 12, 10).transpose(2, 0, 3, 1).reshape(48, 40))
    ours = load_network(shared_data / "weights" / "espcn_x4.pth", CPU).run(
        torch.from_numpy(luma)[None].float()
    )
    assert np.allclose(ours[0, 0].numpy(), theirs, atol=1e-5)


def test_a_file_that_spandrel_knows_gives_what_spandrel_makes_of_it(shared_data):
    from spandrel import ModelLoader

    path = shared_data / "weights" / "realesr-animevideov3.pth"
    low = picture(30, 41)
    expected = ModelLoader().load_from_file(path).eval()(low[None])[0]
    ours = apply_network(load_network(path, CPU), low, 120, 164)
    assert torch.allclose(ours, expected.clamp(0, 1), atol=1e-5)
