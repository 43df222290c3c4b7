"""The strict loader: what a TOML file may say, and how it tells what it does not take."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from vsr.errors import ModelError, UsageError
from vsr.records import (
    Origin,
    from_json,
    from_metadata,
    from_table,
    limits,
    load_options,
    option,
    to_table,
)


@dataclass(frozen=True)
class Training:
    steps: int = 400
    learning_rate: float = 5e-4
    loss: Literal["l1", "l2", "charbonnier"] = "l1"


@dataclass(frozen=True)
class Tiny:
    policy: str = "smi"
    exact: bool = True
    sizes: tuple[int, ...] = (32, 64)
    seed: int | None = None
    steady: float | Literal["auto"] = "auto"
    training: Training = field(default_factory=Training)
    stages: tuple[Training, ...] = ()
    second: Training | None = None


@pytest.fixture
def load(tmp_path):
    def load(text, *settings):
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return load_options(Tiny, path, settings)

    return load


def test_an_empty_file_and_no_file_give_the_defaults(load):
    assert load("") == load_options(Tiny) == Tiny()


def test_every_kind_of_field_is_read(load):
    text = """
        policy = "avgi"
        exact = false
        sizes = [1, 2, 3]
        seed = 7
        steady = 0.5
        stages = [{steps = 1}, {loss = "l2"}]
        [training]
        steps = 5
        [second]
        learning_rate = 0.25
    """
    expected = Tiny(
        "avgi",
        False,
        (1, 2, 3),
        7,
        0.5,
        Training(steps=5),
        (Training(1), Training(loss="l2")),
        Training(learning_rate=0.25),
    )
    assert load(text) == expected


def test_a_whole_number_is_taken_for_a_float_and_becomes_one(load):
    rate = load("training.learning_rate = 1").training.learning_rate
    assert rate == 1.0
    assert type(rate) is float


@pytest.mark.parametrize(
    ("text", "found", "remedy"),
    [
        ("polcy = 'smi'", "'polcy'", "did you mean 'policy'"),
        ("training.stepz = 1", "'training.stepz'", "did you mean 'steps'"),
        ("zzz = 1", "'zzz'", "known here are policy, exact"),
        ("stages = [{}, {stepz = 1}]", "'stages[1].stepz'", "did you mean 'steps'"),
        ("training.loss = 'charbonier'", "training.loss is", "did you mean 'charbonnier'"),
        ("training.loss = 1", "training.loss is 1", "'l1', 'l2' or 'charbonnier'"),
        ("training.steps = 1.5", "training.steps is 1.5", "a whole number"),
        ("training.steps = true", "training.steps is True", "a whole number"),
        ("training = 3", "training is 3", "a table"),
        ("second.steps = 'x'", "second.steps is 'x'", "a whole number"),
        ("policy = 3", "policy is 3", "a text"),
        ("exact = 1", "exact is 1", "true or false"),
        ("sizes = 3", "sizes is 3", "a list, each item a whole number"),
        ("sizes = [1, 'a']", "sizes[1] is 'a'", "a whole number"),
        ("seed = 'x'", "seed is 'x'", "a whole number"),
        ("steady = 'atuo'", "steady is 'atuo'", "a finite number or 'auto'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path_and_a_remedy(load, text, found, remedy):
    with pytest.raises(UsageError) as caught:
        load(text)
    assert found in str(caught.value)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_field_without_a_default_must_be_given():
    @dataclass(frozen=True)
    class Needy:
        name: str

    with pytest.raises(UsageError, match=r"name is missing.*a text"):
        from_table(Needy, {})
    assert from_table(Needy, {"name": "x"}) == Needy("x")


def test_a_file_that_is_missing_or_not_toml_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.toml: No such file"):
        load_options(Tiny, tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(UsageError, match=r"bad\.toml is not TOML.*line 1"):
        load_options(Tiny, tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.toml is not TOML"):
        load_options(Tiny, tmp_path / "binary.toml")


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "notepad.toml").write_bytes(b"\xef\xbb\xbfpolicy = 'avgi'\n")
    assert load_options(Tiny, tmp_path / "notepad.toml").policy == "avgi"


def test_settings_beat_the_file_and_the_last_one_wins(load):
    tiny = load("training.steps = 1", "training.steps=2", "training.steps = 3", "policy=avgi")
    assert tiny == Tiny(policy="avgi", training=Training(steps=3))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("exact=false", Tiny(exact=False)),
        ("sizes=[4, 5]", Tiny(sizes=(4, 5))),
        ("policy=dsrfi", Tiny(policy="dsrfi")),
        ('policy="a b"', Tiny(policy="a b")),
        ("policy=a=b", Tiny(policy="a=b")),
        ("second.loss=l2", Tiny(second=Training(loss="l2"))),
        ("steady=0", Tiny(steady=0.0)),
        ("steady=auto", Tiny(steady="auto")),
    ],
)
def test_a_setting_is_a_toml_value_or_a_bare_word(setting, expected):
    assert load_options(Tiny, None, [setting]) == expected


@pytest.mark.parametrize("setting", ["policy", "=3", "a..b=1", "training.=1"])
def test_a_setting_without_key_or_value_is_refused(setting):
    with pytest.raises(UsageError, match="write it as key=value"):
        load_options(Tiny, None, [setting])


def test_a_setting_under_a_value_is_refused(load):
    with pytest.raises(UsageError, match="'policy' is a value, not a table"):
        load("policy = 'smi'", "policy.name=x")


def test_a_table_survives_json_and_comes_back_equal():
    tiny = Tiny(sizes=(8,), seed=None, second=Training(steps=9), stages=(Training(loss="l2"),))
    table = json.loads(json.dumps(to_table(tiny)))
    assert table["second"] == {"steps": 9, "learning_rate": 5e-4, "loss": "l1"}
    assert from_table(Tiny, table) == tiny


@dataclass(frozen=True)
class Card:
    """A record as files of ours hold it."""

    arch: str
    width: int = field(metadata=limits(at_least=1, at_most=256))
    factors: tuple[float, float] = field(metadata=limits(above=1, at_most=8))
    parts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    leak: float = option(0.2, "Slope below 0.", at_least=0, below=1)

    def __post_init__(self):
        if self.arch == "none":
            raise ValueError("arch is none; expected a network")


CARD = {"arch": "a", "width": 8, "factors": [2, 1.5]}
FILE = Origin("a.safetensors", ModelError)
NEWER = Origin("a.safetensors", ModelError, lenient=True)


def test_a_record_is_read_from_json_and_from_metadata():
    parts = {"parts": {"x": [1, 2]}, "training": {"steps": 3}, "folder": "a/b"}
    card = from_json(Card, json.dumps(CARD | parts), FILE)
    assert card == Card("a", 8, (2.0, 1.5), {"x": (1, 2)}, {"steps": 3}, Path("a/b"))
    assert from_metadata(Card, {key: json.dumps(value) for key, value in CARD.items()}, FILE) == (
        Card("a", 8, (2.0, 1.5))
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "a.safetensors: width is 0; expected a whole number from 1 to 256"),
        ({"width": 257}, "width is 257"),
        ({"factors": [2]}, "factors is .*expected a list of 2 items, each item a number above 1"),
        ({"factors": [2, 1]}, r"factors\[1\] is 1"),
        ({"factors": [2, float("inf")]}, r"factors\[1\] is inf"),
        ({"leak": 1}, "leak is 1; expected a number from 0 to below 1"),
        ({"parts": {"x": ["y"]}}, r"parts.x\[0\] is 'y'"),
        ({"arch": "none"}, "a.safetensors: arch is none"),
        ({"depth": 3}, "unknown key 'depth'"),
    ],
)
def test_a_wrong_record_raises_the_error_of_its_origin(change, message):
    with pytest.raises(ModelError, match=message):
        from_table(Card, CARD | change, FILE)


def test_keys_of_a_newer_version_are_passed_over_where_that_is_asked():
    assert from_table(Card, CARD | {"depth": 3}, NEWER) == from_table(Card, CARD, FILE)
    assert from_metadata(
        Card, {key: json.dumps(value) for key, value in CARD.items()} | {"format": "pt"}, NEWER
    ) == from_table(Card, CARD, FILE)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"arch": }', "[" * 100_000, b"\xff", "3"])
def test_text_that_is_no_json_object_is_refused_in_one_line(text):
    with pytest.raises(ModelError, match=r"^a\.safetensors.*(not JSON|JSON object)") as caught:
        from_json(Card, text, FILE)
    assert "\n" not in str(caught.value)


def test_a_long_value_does_not_fill_the_terminal():
    with pytest.raises(UsageError) as caught:
        from_table(Tiny, {"sizes": "x" * 10_000})
    assert len(str(caught.value)) < 300
