"""Files made to do harm: nothing is run, nothing else is opened, nothing huge is allocated, and one
line says why."""

import io
import json
import os
import resource
import shutil
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vsr
from tests.clips import moving_pictures, read_frames, write_clip
from tests.models import make_model, picture
from vsr import cli
from vsr.errors import InputError, ModelError, UsageError
from vsr.models.bank import load_bank, load_model
from vsr.models.shot_model import load_shot_model
from vsr.pipeline.options import Recipe, resolve_recipe
from vsr.text import printable
from vsr.upscale.networks import third_party as foreign
from vsr.upscale.networks.files import CARD_KEY, load_network
from vsr.video.reader import ReadOptions, open_clip

SCRIPT = "<script>document.title='run'</script>"
ESCAPE = "\x1b[2J"


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line in this process: (exit code, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["vsr", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = left.code
        return code, capsys.readouterr().err

    return call


# Clips


def huge_picture(path, side=9000):
    codec = av.Codec("png", "w").create("video")
    codec.height = codec.width = side
    codec.pix_fmt, codec.time_base = "monob", Fraction(1, 25)
    black = av.VideoFrame(side, side, "monob")
    # What is not written holds whatever the memory held before.
    black.planes[0].update(bytes(black.planes[0].buffer_size))
    (packet,) = codec.encode(black)
    path.write_bytes(bytes(packet))
    return path


def test_a_frame_beyond_the_limit_is_refused_before_it_is_decoded_and_can_be_allowed(tmp_path):
    """A few kilobytes that would become a gigabyte of float pixels."""
    clip = huge_picture(tmp_path / "bomb.png")
    assert clip.stat().st_size < 50_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="--allow-huge"):
        open_clip(clip)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    with open_clip(clip, ReadOptions(allow_huge=True)) as reader:
        assert (reader.info.width, reader.info.height) == (9000, 9000)


def claim_of_size(path, width, height):
    """A real clip whose header claims another size."""
    clip = write_clip(path, moving_pictures(3), codec="ffv1", pixel_format="bgr0")
    data = bytearray(clip.read_bytes())
    for element, value in ((b"\xb0", width), (b"\xba", height)):
        place = data.index(b"\xe0") if element == b"\xb0" else data.index(b"\xb0")
        start = data.index(element, place)
        length = data[start + 1] & 0x7F
        data[start + 2 : start + 2 + length] = value.to_bytes(length, "big")
    clip.write_bytes(data)
    return clip


def test_a_header_that_claims_an_enormous_size_is_refused(tmp_path):
    clip = write_clip(tmp_path / "a.y4m", moving_pictures(3), codec="wrapped_avframe")
    data = clip.read_bytes().replace(b"W48 H32", b"W10000 H10000", 1)
    clip.write_bytes(data)
    with pytest.raises(
        InputError, match=r"10000x10000; expected at most 64 million pixels.*--allow-huge"
    ):
        open_clip(clip)


def test_a_clip_of_weeks_is_refused_and_can_be_allowed(tmp_path):
    four_days = Fraction(4 * 24 * 3600)
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(2), pts=[0, 1], time_base=four_days)
    with pytest.raises(InputError, match=r"192 hours; expected at most 168"):
        open_clip(clip)
    with open_clip(clip, ReadOptions(allow_huge=True)) as reader:
        assert len(list(reader.frames())) == 2


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile film.ts\n",
    ],
)
@pytest.mark.parametrize("suffix", ["m3u8", "mp4"])
def test_a_list_of_other_files_is_never_followed(tmp_path, content, suffix):
    write_clip(tmp_path / "film.ts", moving_pictures(6))
    playlist = tmp_path / f"clip.{suffix}"
    playlist.write_text(content)
    with pytest.raises(InputError, match="a list of other files, not a video"):
        open_clip(playlist)


def test_a_list_on_standard_input_is_never_followed(tmp_path, monkeypatch):
    film = write_clip(tmp_path / "film.ts", moving_pictures(6))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(playlist.encode())))
    with pytest.raises(InputError, match="standard input: no video"):
        open_clip("-")


@pytest.mark.parametrize("name", ["clip.mp4", "recipe.toml", "model.safetensors"])
def test_a_pipe_with_a_name_is_refused_instead_of_waited_for(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    open_it = {
        ".mp4": open_clip,
        ".toml": lambda p: resolve_recipe(p, [], {}),
        ".safetensors": load_model,
    }[path.suffix]
    with pytest.raises((InputError, UsageError, ModelError), match="not a regular file"):
        open_it(path)


def hostile_clip(path):
    """Scripts, terminal commands and format strings wherever a clip has room for words."""
    words = f"{SCRIPT} {{0.__class__}} %s %n $(touch pwned) `touch pwned` {ESCAPE}"
    return write_clip(
        path,
        moving_pictures(6),
        audio_codec="aac",
        tags={"title": words, "comment": words},
        stream_tags={"title": words, "language": "eng"},
        subtitles=[(0, 100, words.encode())],
        attachment=(f"{SCRIPT}.ttf", "font/ttf", b"font"),
        chapters=[(0, 0.1, words)],
    )


def test_tags_are_carried_as_they_are_and_obeyed_by_nobody(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = hostile_clip(tmp_path / "a.mkv")
    code, errors = run(
        "run", clip, "-o", "out.mp4", "--policy", "bicubic", "--scale", 1, "--metrics", ""
    )
    assert code == 0
    assert "\x1b" not in errors
    assert not (tmp_path / "pwned").exists()
    with av.open(str(clip)) as before, av.open("out.mp4") as after:
        assert after.metadata["title"] == before.metadata["title"]


@pytest.mark.parametrize(
    "name",
    [
        b"a;touch pwned;.mkv",
        b"$(touch pwned).mkv",
        b"%s%n{0}.mkv",
        b"-y.mkv",
        b"\xff\xfe.mkv",
        b"\x1b[2Ja\nb.mkv",
    ],
)
def test_a_file_may_have_any_name(tmp_path, run, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    plain = write_clip(tmp_path / "plain.mkv", moving_pictures(3))
    shutil.copy(plain, os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    named = f"./{os.fsdecode(name)}"
    code, errors = run(
        "run", named, "--policy", "bicubic", "--scale", 1, "--metrics", "", "--json", "record.json"
    )
    assert code == 0
    assert "\x1b" not in errors
    assert not (tmp_path / "pwned").exists()
    record = json.loads((tmp_path / "record.json").read_text())
    assert os.fsencode(record["clip"]).endswith(name)
    assert len(read_frames(record["output"])) == 3


def test_an_external_encoder_gets_names_as_words_and_not_through_a_shell(
    tmp_path, run, monkeypatch
):
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(3))
    options = ("--policy", "bicubic", "--scale", 1, "--metrics", "")
    for codec in ("ffmpeg:libx264;touch pwned", "ffmpeg:$(touch pwned)", "ffmpeg:-f"):
        code, _ = run("run", clip, "-o", "out.mkv", *options, "-c", codec)
        assert code == 2
    assert not (tmp_path / "pwned").exists()


def test_words_for_a_terminal_are_shown_and_not_obeyed():
    assert printable(f"a{ESCAPE}b\udcff\rc\u202e") == "a\\x1b[2Jb\\udcff\\rc\\u202e"
    assert printable("größe vier, „ok“\nsecond line") == "größe vier, „ok“\nsecond line"


def page_of_a_hostile_clip(folder):
    from vsr.evaluate.report import write_run_page

    clip = hostile_clip(folder / "a.mkv")
    named = folder / f"{SCRIPT.replace('/', chr(0x2215))}<img src=x onerror=alert(1)>.mkv"
    clip.rename(named)
    manifest = vsr.run(
        named, folder / "out.mp4", policy="bicubic", scale=1, metrics=("sharpness_live",)
    )
    write_run_page(manifest, folder / "page.html", None, lambda *_: None)
    return folder / "page.html"


def test_no_script_of_a_clip_stands_in_its_page(tmp_path):
    text = page_of_a_hostile_clip(tmp_path).read_text()
    assert "onerror=alert" in text
    assert "<img src=x" not in text
    assert "document.title='run'" not in text.replace("&#39;", "'").replace(
        "&lt;script&gt;document.title='run'", ""
    )


@pytest.mark.slow
def test_the_page_of_a_clip_whose_tags_and_name_are_scripts_stays_inert(tmp_path):
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the browser tests need playwright"
    )
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("the browser tests need Debian's chromium (apt-get install chromium)")
    place = page_of_a_hostile_clip(tmp_path)
    complaints = []
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=executable)
        page = chromium.new_page()
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith("data:") else complaints.append(asked.url),
        )
        page.goto(place.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        assert page.title() != "run"
        assert "onerror" in page.text_content("#record pre")
        chromium.close()
    assert complaints == [place.as_uri()]


# Models


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    make_model(folder, "m", picture())
    return folder / "m.safetensors"


def with_metadata(source, target, **changes):
    content = source.read_bytes()
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    save_file(load_file(source), target, metadata | changes)
    return target


DEEP = "[" * 100_000
HOSTILE_METADATA = [
    ("network", DEEP),
    ("loss_curve", DEEP),
    ("seed", "9" * 5000),
    ("critic_mean", "1e999"),
    (
        "network",
        '{"width": 99999999, "layers": 5, "padding": "zeros", "batch_norm": true, "tanh": true}',
    ),
    (
        "network",
        '{"width": 32, "layers": 2000000000, "padding": "zeros", "batch_norm": true, "tanh": true}',
    ),
    ("clip", '["../../etc/passwd"]'),
    ("arch", "not json"),
    ("kernel", "[[" + "0," * 10_000 + "0]]"),
]


@pytest.mark.parametrize(("name", "value"), HOSTILE_METADATA)
def test_hostile_metadata_of_a_model_is_refused_in_one_line(tmp_path, model_file, name, value):
    bad = with_metadata(model_file, tmp_path / "m.safetensors", **{name: value})
    with pytest.raises(ModelError, match=name) as refusal:
        load_model(bad)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("value", [DEEP, "9" * 5000, "null", "{}", '"x"', "1e999"])
def test_hostile_metadata_of_a_shot_model_is_refused_in_one_line(tmp_path, value):
    names = (
        "arch",
        "network",
        "iterations",
        "seed",
        "clip",
        "clip_identity",
        "first_frame",
        "last_frame",
    )
    more = ("shot_start_seconds", "shot_end_seconds", "frames_trained_on", "loss_curve", "version")
    save_file(
        {"stage1.x": torch.zeros(1)},
        tmp_path / "s.shot.safetensors",
        dict.fromkeys([*names, *more], value),
    )
    with pytest.raises(ModelError):
        load_shot_model(tmp_path / "s.shot.safetensors")


def test_a_header_that_claims_more_than_the_file_holds_allocates_nothing(tmp_path):
    header = json.dumps(
        {"generator.w": {"dtype": "F32", "shape": [2**30, 2**10], "data_offsets": [0, 2**42]}}
    ).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="not a whole"):
        load_model(tmp_path / "m.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024


def test_a_file_larger_than_any_model_is_refused_unread(tmp_path):
    with (tmp_path / "m.safetensors").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ModelError, match="at most"):
        load_bank(tmp_path)


def test_names_in_a_model_never_become_paths(tmp_path, model_file):
    bank = tmp_path / "bank"
    bank.mkdir()
    changes = {"clip": '"../../../escaped"', "recipe": '"/escaped"', "version": '"../escaped"'}
    with_metadata(model_file, bank / "m.safetensors", **changes)
    before = sorted(path for path in tmp_path.rglob("*"))
    assert load_bank(bank)[0].name == "m"
    assert sorted(path for path in tmp_path.rglob("*")) == before


# Upscalers


def own_upscaler(folder, **changes):
    network = {"width": 64, "blocks": 23, "scale": 4}
    card = {
        "arch": "rrdb",
        "network": network,
        "method": "esrgan",
        "training": {},
        "version": "0",
    } | changes
    save_file({"w": torch.zeros(1)}, folder / "u.safetensors", {CARD_KEY: json.dumps(card)})
    return folder / "u.safetensors"


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"width": 1024, "blocks": 64, "scale": 4}},
        {"network": {"width": 64, "blocks": 1000, "scale": 4}},
        {"network": {"width": 64, "blocks": 1, "scale": 0}},
        {"network": {"width": 64, "blocks": 1, "scale": 1000}},
        {"network": {"width": "64", "blocks": 1, "scale": 4}},
        {"arch": "srcnn", "network": {"kernels": [], "width": 64, "inner_width": 32, "scale": 4}},
        {"arch": ["x"]},
        {"network": [1]},
        {"consistency_passes": 10**9},
    ],
)
def test_a_hostile_card_of_an_upscaler_is_refused_before_it_takes_memory(tmp_path, changes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError) as refusal:
        load_network(own_upscaler(tmp_path, **changes), torch.device("cpu"))
    assert "\n" not in str(refusal.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_a_name_that_claims_millions_of_layers_is_refused(tmp_path):
    state = {
        "body.0.weight": torch.zeros(8, 3, 3, 3),
        "body.3000000.weight": torch.zeros(12, 8, 3, 3),
    }
    torch.save(state, tmp_path / "u.pth")
    with pytest.raises(ModelError, match="more than 4096 layers"):
        load_network(tmp_path / "u.pth", torch.device("cpu"))


def test_a_checkpoint_that_unpacks_to_more_than_any_network_is_refused_unread(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(foreign, "MAX_UNPACKED_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "u.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(2**20 + 1))
    assert (tmp_path / "u.pth").stat().st_size < 5000
    with pytest.raises(ModelError, match="unpacks to 1048577 bytes"):
        load_network(tmp_path / "u.pth", torch.device("cpu"))


def test_a_checkpoint_that_is_a_program_is_refused_and_never_run(tmp_path):
    class Program:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "run"),))

    torch.save({"w": Program()}, tmp_path / "u.pth")
    with pytest.raises(ModelError, match="nothing in it was run"):
        load_network(tmp_path / "u.pth", torch.device("cpu"))
    assert not (tmp_path / "run").exists()


# Recipes


@pytest.mark.parametrize(
    "text",
    [
        "scale = " + "9" * 5000,
        "metrics = " + "[" * 3000 + "]" * 3000,
        "scale = 1e999",
        "steady = 1979-05-27",
        "[encode]\ncodec = ['libx264']",
        "__class__ = 'x'",
        "[read]\non_damage = '{0.__class__}'",
        "scale = 0xFFFFFFFFFFFFFFFFFFFFFFFF",
        "a" * (2**20 + 1),
        "\x00",
    ],
)
def test_a_hostile_recipe_is_refused_in_one_line(tmp_path, run, text):
    recipe = tmp_path / "r.toml"
    recipe.write_text(text)
    clip = write_clip(tmp_path / "a.mkv", moving_pictures(2))
    options = ("--policy", "bicubic", "--metrics", "")
    code, errors = run("run", clip, "-o", tmp_path / "out.mkv", *options, "--recipe", recipe)
    assert code == 2
    assert "Traceback" not in errors
    assert not (tmp_path / "out.mkv").exists()


def test_a_recipe_of_bytes_that_are_no_text_is_refused(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"policy = '\xff\xfe'")
    with pytest.raises(UsageError, match="is not TOML"):
        resolve_recipe(tmp_path / "r.toml", [], {})


def test_a_setting_is_held_to_the_same_limits():
    for setting in ("scale=" + "9" * 5000, "metrics=" + "[" * 5000):
        with pytest.raises(UsageError):
            resolve_recipe(None, [setting], {})
    assert resolve_recipe(None, ["scale=2"], {}) == Recipe(scale=2.0)


def test_the_result_beside_a_clip_stays_in_its_folder(tmp_path, run, monkeypatch):
    """What the clip calls itself inside has no say in where anything is written."""
    folder = tmp_path / "films"
    folder.mkdir()
    clip = write_clip(
        folder / "a.mkv",
        moving_pictures(2),
        tags={"title": "../../escaped", "filename": "/escaped"},
    )
    code, _ = run("run", clip, "--policy", "bicubic", "--scale", 1, "--metrics", "")
    assert code == 0
    assert sorted(path.name for path in Path(tmp_path).rglob("*")) == ["a.mkv", "a_x1.mkv", "films"]


def test_an_extreme_number_in_a_clip_makes_no_extreme_film(tmp_path):
    """The time of the last frame is moved by a year; the film does not last a year for it."""
    clip = write_clip(
        tmp_path / "a.mkv", moving_pictures(5), pts=[0, 1, 2, 3, 365 * 24 * 3600 * 25]
    )
    with open_clip(clip, ReadOptions(allow_huge=True)) as reader:
        frames = list(reader.frames())
        assert frames[-1].seconds - frames[0].seconds < 24 * 3600
        assert [damage.kind for damage in reader.damage] == ["repaired_timestamps"]
    assert np.isfinite(frames[-1].pixels.numpy()).all()
