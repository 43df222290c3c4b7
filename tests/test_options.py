"""Options: declared once, and the same in commands, Python calls, recipes and `--set`."""

import inspect
import sys
from pathlib import Path

import pytest
import typer.main

import vsr
from tests.clips import moving_pictures, write_clip
from tools.write_signatures import COMMANDS, REGION, with_signatures
from vsr import cli
from vsr.errors import UsageError
from vsr.pipeline.options import Recipe, RunFiles, resolve_recipe
from vsr.records import from_table, keywords, load_options, to_table
from vsr.train.options import KeyframeTraining

PACKAGE = Path(vsr.__file__).parent
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if REGION.search(path.read_text("utf-8"))]


def offered(command, cls):
    return [each for each in keywords(cls) if command in (each.option.commands or (command,))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_signatures_follow_from_the_options(path):
    text = path.read_text("utf-8")
    assert with_signatures(path, text) == text, "python -m tools.write_signatures"


def test_a_signature_that_lacks_an_option_or_has_an_old_text_is_found_stale():
    path = PACKAGE / "pipeline" / "api.py"
    text = path.read_text("utf-8")
    assert with_signatures(path, text.replace("    tile: int | None = None,\n", "")) == text
    path = PACKAGE / "cli" / "run.py"
    text = path.read_text("utf-8")
    assert with_signatures(path, text.replace("The bank: a folder", "A folder")) == text


@pytest.mark.parametrize(
    "command", ["run", "plan", "steady", "score", "train-keyframe", "train", "kernel"]
)
def test_commands_offer_every_option_with_its_help(command):
    parameters = {
        each.name: each for each in typer.main.get_command(cli.app).commands[command].params
    }
    name = "run" if command == "plan" else command
    for cls in COMMANDS[name]:
        for each in offered(name, cls):
            parameter = parameters[each.option.keyword]
            assert set(each.option.flags) == set(parameter.opts)
            assert parameter.help.startswith(each.option.help.removesuffix("."))


@pytest.mark.parametrize("function", [vsr.run, vsr.steady])
def test_python_calls_take_every_option_as_a_keyword(function):
    taken = inspect.signature(function).parameters
    wanted = [each for cls in (RunFiles, Recipe) for each in offered(function.__name__, cls)]
    assert len(wanted) > 15
    assert {each.option.keyword for each in wanted} <= taken.keys()


def test_no_two_options_of_a_command_share_a_name():
    for classes in COMMANDS.values():
        names = [each.option.keyword for cls in classes for each in keywords(cls)]
        assert len(names) == len(set(names))


def test_a_recipe_a_setting_and_a_keyword_mean_the_same(tmp_path):
    given = {
        "scale": 2,
        "steady": "0.5",
        "metrics": "psnr, lr_psnr",
        "pix_fmt": "yuv444p",
        "crf": 3.0,
        "on_damage": "stop",
        "quality": "best",
        "upscaler": Path("x.safetensors"),
    }
    by_key = {each.option.keyword: each.key for each in keywords(Recipe)}
    texts = {
        "scale": "2",
        "steady": "0.5",
        "metrics": '["psnr", "lr_psnr"]',
        "pix_fmt": '"yuv444p"',
        "crf": "3",
        "on_damage": '"stop"',
        "quality": '"best"',
        "upscaler": '"x.safetensors"',
    }
    settings = [f"{by_key[name]}={text}" for name, text in texts.items()]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("\n".join(settings))
    wanted = resolve_recipe(None, [], given)
    assert (wanted.steady, wanted.encode.crf, wanted.metrics) == (0.5, 3.0, ("psnr", "lr_psnr"))
    assert wanted == resolve_recipe(None, settings, {}) == resolve_recipe(recipe, [], {})


def test_the_call_beats_the_settings_which_beat_the_recipe(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("scale = 2\ntile = 64\nthreads = 1\n")
    chosen = resolve_recipe(recipe, ["scale=3", "tile=128"], {"scale": 4.0, "crf": None})
    assert (chosen.scale, chosen.tile, chosen.threads, chosen.encode.crf) == (4.0, 128, 1, None)


def test_a_named_policy_beats_a_recipe_that_compares_or_names_a_network(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('upscaler = "x.safetensors"\ncompare = ["smi", "ami"]\n')
    chosen = resolve_recipe(recipe, [], {"policy": "smi"})
    assert (chosen.policy, chosen.upscaler, chosen.compare) == ("smi", "", ())
    with pytest.raises(UsageError, match="not both"):
        resolve_recipe(None, [], {"policy": "smi", "upscaler": "x.safetensors"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tile": 31}, "--tile is 31; expected a whole number from 32"),
        ({"threads": 0}, "--threads is 0; expected a whole number from 1"),
        ({"scale": 0.5}, "--scale is 0.5; expected a number from 1 to 16"),
        ({"scale": float("nan")}, "--scale is nan; expected a number from 1 to 16"),
        ({"scale": 10**400}, "expected a number from 1 to 16"),
        ({"target_flicker": 0.0}, "--target-flicker is 0.0; expected a number above 0"),
        ({"steady": 1.5}, "--steady is 1.5; expected a number from 0 to 1 or 'auto'"),
        ({"quality": "bst"}, "--quality is 'bst'; expected .*did you mean 'best'"),
        ({"crf": True}, "--crf is True; expected a finite number"),
    ],
)
def test_a_value_beyond_its_limits_is_named_by_its_flag(given, message):
    with pytest.raises(UsageError, match=message):
        resolve_recipe(None, [], given)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("policies.members=1", "policies.members is 1; expected a whole number from 2"),
        ("policies.hysteresis=-0.1", "policies.hysteresis is -0.1; expected a number from 0"),
        ("encode.segment_frames=0", "encode.segment_frames is 0; expected a whole number from 1"),
        ("policies.agreement=0.5", "policies.agreement was renamed to .*back_projection_weight"),
    ],
)
def test_a_setting_beyond_its_limits_is_named_by_its_key(setting, message):
    with pytest.raises(UsageError, match=message):
        resolve_recipe(None, [setting], {})


def test_words_of_the_command_line_become_values():
    given = {"shots": "3", "keyframe": "auto", "seed": 7, "kernel": "auto", "budget_seconds": 2}
    training = load_options(KeyframeTraining, given=given)
    assert (training.shots, training.keyframe, training.seed) == (3, "auto", 7)
    assert training.budget_seconds == 2.0
    with pytest.raises(
        UsageError, match="--shots is 'first'; expected a whole number from 0, 'longest' or 'all'"
    ):
        load_options(KeyframeTraining, given={"shots": "first"})


def test_every_default_lies_within_its_own_limits():
    for cls in {cls for classes in COMMANDS.values() for cls in classes}:
        assert from_table(cls, to_table(cls())) == cls()


def test_an_old_recipe_key_is_answered_with_its_new_name(tmp_path, monkeypatch, capsys):
    clip = write_clip(tmp_path / "clip.mkv", moving_pictures(2, 32, 32))
    recipe = tmp_path / "old.toml"
    recipe.write_text('policy = "bicubic"\n[policies]\nagreement = 0.5\n')
    arguments = ["vsr", "run", str(clip), "--recipe", str(recipe)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert f"{recipe}: policies.agreement was renamed to policies.back_projection_weight" in errors
