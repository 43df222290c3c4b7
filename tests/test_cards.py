"""Model cards: complete, true, and the same on the command line as in the docs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vsr.cli import app, cards
from vsr.errors import UsageError
from vsr.train.dataset import METHODS
from vsr.upscale import POLICIES

PAGE = Path(__file__).parents[1] / "docs" / "upscalers.md"


def test_every_policy_and_every_method_of_external_learning_has_a_card():
    assert cards.CARDS.keys() == POLICIES.keys() | METHODS.keys()


def test_the_page_in_the_docs_is_what_the_command_writes():
    assert PAGE.read_text(encoding="utf-8") == cards.markdown() + "\n", (
        "vsr upscalers --markdown > docs/upscalers.md"
    )


@pytest.mark.parametrize(
    ("name", "weights", "pixels_per_position"),
    [("srcnn", 57_184, 1), ("fsrcnn", 12_464, 16), ("espcn", 1600 + 18_432 + 4_608, 16)],
)
def test_costs_agree_with_published_numbers_of_weights(name, weights, pixels_per_position):
    """Each weight is used once at a position: of the enlarged picture, or of the input, which is 16
    output pixels."""
    assert cards.CARDS[name].macs() == pytest.approx(weights / pixels_per_position)


def test_averaging_fifteen_models_costs_fifteen_times_one():
    assert cards.CARDS["avgi"].macs() == pytest.approx(15 * cards.CARDS["smi"].macs())


def test_the_card_of_a_file_tells_what_is_in_it(shared_data):
    path = shared_data / "weights" / "espcn_x4.pth"
    shown = CliRunner().invoke(app, ["upscalers", str(path)]).stdout
    for words in (
        "espcn x4, luma",
        "1.54 thousand multiply-adds",
        "without antialiasing",
        "--upscaler espcn_x4.pth",
    ):
        assert words in shown


def test_an_unknown_name_is_refused_with_those_that_exist():
    with pytest.raises(UsageError, match=r"no upscaler esgran.*esrgan"):
        cards.named_card("esgran")


def test_the_table_names_every_upscaler():
    shown = CliRunner().invoke(app, ["upscalers"]).stdout
    assert all(name in shown for name in cards.CARDS)
    assert "when:" in CliRunner().invoke(app, ["upscalers", "shot"]).stdout
