"""Scores finished clips: aligned by time with a truth and the low-resolution input, measured, ranked."""

from vsr.scoring.measuring import score
from vsr.scoring.placing import Source
from vsr.scoring.scores import ClipScores, Scores
from vsr.scoring.tables import score_table, write_csv

__all__ = ["ClipScores", "Scores", "Source", "score", "score_table", "write_csv"]
