"""Mean opinion scores: a blind page for human raters, and their evaluation."""

from vsr.evaluate.mos.ratings import ClipOpinion, Opinions, opinion_table, read_opinions
from vsr.evaluate.mos.sheet import SheetOptions, write_sheet

__all__ = [
    "ClipOpinion",
    "Opinions",
    "SheetOptions",
    "opinion_table",
    "read_opinions",
    "write_sheet",
]
