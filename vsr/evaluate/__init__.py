"""Scores of finished clips: aligned by time with a truth and the low-resolution input, measured,
ranked."""

from vsr.evaluate.alignment import Source
from vsr.evaluate.results import ClipScores, Scores
from vsr.evaluate.score import score
from vsr.evaluate.tables import SUMMARY_ROWS, score_table, write_csv

__all__ = ["SUMMARY_ROWS", "ClipScores", "Scores", "Source", "score", "score_table", "write_csv"]
