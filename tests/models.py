"""Small banks for the tests; benchmarks make the same."""

from benchmarks.made_models import BRIEF, card_of, make_model, make_shot_model, picture

__all__ = ["BRIEF", "card_of", "make_model", "make_shot_model", "picture"]
