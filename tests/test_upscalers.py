"""Networks from files in the place of a policy, and the classic networks themselves."""

import pickle
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.RCAN import RCAN
from spandrel.architectures.SAFMN import SAFMN

from tests.clips import moving_pictures, read_times, two_shots, write_clip
from tests.models import make_model, picture
from tests.steps import frame_of, upscale_frames
from vsr.engine.options import EngineOptions
from vsr.engine.tiling import run_in_tiles, tile_spans
from vsr.errors import ModelError, UsageError
from vsr.image.resample import resize
from vsr.models.networks.classic import EspcnSpec, FsrcnnSpec, SrcnnSpec
from vsr.models.networks.srgan import RrdbSpec, SrresnetSpec
from vsr.pipeline import api
from vsr.upscale import UPSCALER, PolicyContext, PolicyOptions
from vsr.upscale.networks.files import ARCHITECTURES, NetworkCard, encode_network, load_network
from vsr.upscale.networks.network import apply_network, noise_planes, num_passes, scale_note
from vsr.video.reader import open_clip

CPU = torch.device("cpu")
SMALL_SPECS = {
    "srcnn": SrcnnSpec((9, 1, 5), 8, 4, scale=2),
    "fsrcnn": FsrcnnSpec(8, 4, 1, scale=3),
    "espcn": EspcnSpec(scale=2, width=8, inner_width=8),
    "srresnet": SrresnetSpec(width=8, blocks=1, scale=2),
    "rrdb": RrdbSpec(width=8, blocks=1, scale=2),
}


def write_upscaler(folder, arch, spec=None, seed=0, **card):
    spec = spec or SMALL_SPECS[arch]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[arch].build(spec)
    path = folder / f"{arch}.safetensors"
    path.write_bytes(
        encode_network(NetworkCard(arch, asdict(spec), arch, {}, "0", **card), network)
    )
    return path


@pytest.mark.parametrize("arch", ["fsrcnn", "espcn", "srcnn", "srresnet"])
def test_tiled_is_the_same_as_whole(arch, tmp_path):
    upscaler = load_network(write_upscaler(tmp_path, arch), CPU)
    low = picture(96, 131)
    height, width = upscaler.scale * 96, upscaler.scale * 131
    whole = apply_network(upscaler, low, height, width)
    assert torch.allclose(apply_network(upscaler, low, height, width, tile_px=40), whole, atol=1e-5)


@pytest.mark.parametrize("length", [17, 100, 263])
def test_the_weights_of_tiles_add_up_to_one_everywhere(length):
    total = torch.zeros(3 * length)
    for span in tile_spans(length, tile_px=40, receptive_radius_px=5):
        total[3 * span.start : 3 * span.stop] += span.weights(3, CPU)
    assert torch.allclose(total, torch.ones(3 * length), atol=1e-6)


def test_seams_of_tiles_that_disagree_are_feathered():
    """Every tile answers with a shade of its own: the picture has no step larger than a ramp
    makes."""
    shades = iter((0.0, 1.0, 0.0, 1.0))
    tiled = run_in_tiles(
        lambda tile: torch.full_like(tile, next(shades)), torch.zeros(1, 4, 80), 1, 3, tile_px=40
    )
    assert tiled.diff(dim=-1).abs().max() <= 1 / 15
    assert tiled[0, 0, 0] == 0
    assert tiled[0, 0, -1] == 1


def test_memory_that_runs_out_halves_the_tiles():
    sizes = []

    def run(tile):
        sizes.append(tile.shape[-1])
        if tile.shape[-1] > 70:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tile

    planes = torch.rand(1, 20, 150)
    assert torch.allclose(run_in_tiles(run, planes, 1, 2, tile_px=150), planes, atol=1e-6)
    assert max(sizes) == 150
    with pytest.raises(ModelError, match="does not fit into the memory"):
        run_in_tiles(lambda _: run(torch.zeros(1, 1, 1, 99)), planes, 1, 2)


def test_a_network_for_luma_leaves_chroma_to_bicubic_interpolation(shared_data):
    upscaler = load_network(shared_data / "weights" / "fsrcnn_x4.pth", CPU)
    low = 0.4 + 0.2 * picture(20, 24)
    ours, bicubic = apply_network(upscaler, low, 80, 96), resize(low, 80, 96)
    inside = ((ours > 0) & (ours < 1)).all(dim=0)
    assert inside.float().mean() > 0.5
    for one, other in ((0, 1), (2, 1)):
        difference = (ours[one] - ours[other]) - (bicubic[one] - bicubic[other])
        assert difference[inside].abs().max() < 1e-5


def test_a_scale_that_is_not_the_networks_own_is_met_by_resizing_and_told(tmp_path):
    upscaler = load_network(write_upscaler(tmp_path, "espcn"), CPU)
    assert [num_passes(2, wanted) for wanted in (1.5, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    assert num_passes(1, 4) == 1
    assert apply_network(upscaler, picture(16, 20), 48, 60).shape == (3, 48, 60)
    assert scale_note(upscaler, 2) is None
    assert scale_note(upscaler, 4) == "espcn enlarges by 2, and x4 is wanted: it is applied 2 times"
    assert "resized from x4 to x3" in scale_note(upscaler, 3)


def test_noise_is_the_same_for_a_seed_and_another_for_another(tmp_path):
    spec = SrresnetSpec(width=8, blocks=1, scale=2, batch_norm=False, noise_channels=2)
    upscaler = load_network(write_upscaler(tmp_path, "srresnet", spec), CPU)
    low = picture(20, 24)
    assert noise_planes(upscaler, low, 1).shape == (2, 20, 24)
    results = [apply_network(upscaler, low, 40, 48, seed) for seed in (3, 3, 4)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_passes_of_consistency_bring_the_result_back_to_its_input(tmp_path):
    low = picture(20, 24)
    errors = []
    for count in (0, 3):
        upscaler = load_network(write_upscaler(tmp_path, "srresnet", consistency_passes=count), CPU)
        errors.append(
            float((resize(apply_network(upscaler, low, 40, 48), 20, 24) - low).abs().mean())
        )
    assert errors[1] < errors[0] / 5


def test_a_run_with_an_upscaler_keeps_frames_times_and_says_what_it_used(tmp_path):
    clip = write_clip(
        tmp_path / "clip.mkv", moving_pictures(6, 32, 40), codec="ffv1", pixel_format="bgr0"
    )
    file = write_upscaler(tmp_path, "fsrcnn")
    manifest = api.run(clip, tmp_path / "out.mkv", upscaler=file, metrics=())
    assert read_times(tmp_path / "out.mkv") == read_times(clip)
    assert (manifest.policy, manifest.models) == ("upscaler", ["fsrcnn"])
    assert "x4 is wanted" in manifest.decisions[0]["reason"]
    assert manifest.steady, "flicker control is on for networks, as for models"


def test_frames_of_a_shot_share_their_noise_and_shots_do_not(tmp_path):
    spec = SrresnetSpec(width=8, blocks=1, scale=2, batch_norm=False, noise_channels=2)
    file = write_upscaler(tmp_path, "srresnet", spec)
    still = two_shots(24, 48, 64)
    frames = [still[0]] * 12 + [still[-1]] * 12
    clip = write_clip(tmp_path / "clip.mkv", frames, codec="ffv1", pixel_format="bgr0")
    outputs = {}
    for sample in (0, 1):
        out = tmp_path / f"out{sample}.mkv"
        settings = [f"sample={sample}"]
        api.run(
            clip,
            out,
            upscaler=file,
            scale=2,
            steady=0.0,
            codec="ffv1",
            metrics=(),
            settings=settings,
        )
        with open_clip(out) as reader:
            outputs[sample] = [frame.pixels for frame in reader.frames()]
    assert torch.equal(outputs[0][0], outputs[0][11])
    assert torch.equal(outputs[0][12], outputs[0][23])
    assert not torch.equal(outputs[0][0], outputs[1][0])


def frames_by(file, pixels, dtype):
    """What the policy makes of one picture in a precision, and what it says."""
    engine = EngineOptions(dtype)
    context = PolicyContext([], 2.0, CPU, "clip", PolicyOptions(), engine=engine, network=file)
    (large,), decisions = upscale_frames(UPSCALER, context, [frame_of(pixels, 0)])
    return large.pixels, decisions[0].reason


@pytest.mark.parametrize(
    ("dtype", "word", "most"), [(torch.bfloat16, "bf16", 0.8), (torch.float16, "fp16", 0.15)]
)
@pytest.mark.parametrize("name", ["fsrcnn_x2.pth", "espcn_x2.pth", "realesr-animevideov3.pth"])
def test_half_precision_is_within_a_grey_level_on_average(name, dtype, word, most, shared_data):
    file = shared_data / "weights" / name
    full, said = frames_by(file, picture(24, 28), torch.float32)
    half, said_of_half = frames_by(file, picture(24, 28), dtype)
    assert half.dtype == torch.float32
    apart = (half - full).abs() * 255
    assert 0 < apart.mean() < most
    assert apart.quantile(0.99) < 4 * most
    assert word not in said
    assert f"in {word}" in said_of_half


def test_a_network_that_half_precision_would_break_stays_in_full_precision_and_says_so(tmp_path):
    """By what spandrel knows: SAFMN is not verified in fp16, and in bf16 it is."""
    path = tmp_path / "net.pth"
    torch.save(SAFMN(dim=8, n_blocks=1, upscaling_factor=2).state_dict(), path)
    assert load_network(path, CPU, torch.bfloat16).dtype == torch.bfloat16
    assert load_network(path, CPU, torch.float16).dtype == torch.float32
    assert (
        "in fp32, as SAFMN is not known to work in fp16"
        in frames_by(path, picture(16, 16), torch.float16)[1]
    )


def test_values_beyond_half_precision_are_told_with_what_to_do(tmp_path):
    file = write_upscaler(
        tmp_path, "espcn", EspcnSpec(scale=2, width=8, inner_width=8, activation="relu")
    )
    upscaler = load_network(file, CPU, torch.float16)
    upscaler.run.conv1.weight.fill_(6e4)
    with pytest.raises(ModelError, match="beyond the range of fp16, use --dtype fp32"):
        apply_network(upscaler, picture(16, 20), 32, 40)


def test_a_network_that_works_in_place_leaves_the_frame_as_it_is(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(
        RCAN(n_resgroups=1, n_resblocks=1, n_feats=8, reduction=2, scale=2).state_dict(), path
    )
    low = picture(16, 20)
    before = low.clone()
    apply_network(load_network(path, CPU), low, 32, 40)
    assert torch.equal(low, before)


class _Shout:
    """A pickle that would run code on loading."""

    def __reduce__(self):
        return print, ("code was run",)


def test_files_that_hold_no_known_network_are_refused_with_a_reason(tmp_path, capsys):
    keyframe_model = make_model(tmp_path / "bank", "m", picture())
    good = write_upscaler(tmp_path, "espcn")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-100])
    unknown, broken = tmp_path / "unknown.pth", tmp_path / "broken.pth"
    torch.save({"somewhere.weight": torch.zeros(3, 3)}, unknown)
    broken.write_bytes(b"not a checkpoint")
    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps({"a": _Shout()}, protocol=2))
    half = tmp_path / "net_x4.pth"
    state = {
        "first_part.0.weight": torch.zeros(8, 1, 5, 5),
        "mid_part.0.weight": torch.zeros(4, 8, 1, 1),
    }
    torch.save(state | {"last_part.weight": torch.zeros(8, 1, 9, 9)}, half)
    infinite = tmp_path / "infinite.safetensors"
    save_file({"conv1.weight": torch.full((8, 1, 5, 5), torch.inf)}, infinite)
    cases = {
        cut: "not a whole .safetensors file",
        unknown: "no architecture that is known here",
        broken: r"not a readable checkpoint of tensors alone \(it is not what torch writes\)",
        evil: r"it holds print, which is no tensor\); nothing in it was run",
        half: "looks like fsrcnn",
        infinite: "not finite",
        tmp_path / "bank" / f"{keyframe_model.name}.safetensors": "give --models DIR",
        tmp_path / "missing.pth": "cannot be read: No such file",
        tmp_path / "graph.pb": "OpenCV 5 cannot run",
        tmp_path: "is a folder; expected one file",
    }
    for path, words in cases.items():
        with pytest.raises(ModelError, match=words):
            load_network(path, CPU)
    assert "code was run" not in capsys.readouterr().out


def test_a_card_that_was_tampered_with_is_refused(tmp_path):
    network = ARCHITECTURES["espcn"].build(SMALL_SPECS["espcn"])
    shape = asdict(SMALL_SPECS["espcn"])
    path = tmp_path / "tampered.safetensors"
    for table in (shape | {"width": 10**6}, shape | {"stranger": 1}, {"scale": 0}):
        path.write_bytes(encode_network(NetworkCard("espcn", table, "espcn", {}, "0"), network))
        with pytest.raises(ModelError, match="its card is not one of vsr train"):
            load_network(path, CPU)
    path.write_bytes(encode_network(NetworkCard("espcn", {"scale": 2}, "espcn", {}, "0"), network))
    with pytest.raises(ModelError, match="its metadata say"):
        load_network(path, CPU)


def test_a_policy_and_an_upscaler_are_not_both_taken(tmp_path):
    with pytest.raises(UsageError, match="not both"):
        api.run(tmp_path / "clip.mkv", policy="bicubic", upscaler="x.pth")


def test_a_policy_on_the_command_line_beats_the_upscaler_of_a_recipe(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('upscaler = "absent.pth"\n')
    clip = write_clip(
        tmp_path / "clip.mkv", moving_pictures(3, 32, 40), codec="ffv1", pixel_format="bgr0"
    )
    manifest = api.run(clip, tmp_path / "out.mkv", recipe=recipe, policy="bicubic", metrics=())
    assert manifest.policy == "bicubic"
