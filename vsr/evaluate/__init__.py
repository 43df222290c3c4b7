"""Scores of finished clips: aligned by time with a truth and the low-resolution input, measured,
ranked."""

from vsr.evaluate.alignment import Source
from vsr.evaluate.results import ClipScores, Scores
from vsr.evaluate.score import ScoreOptions, score, score_clips
from vsr.evaluate.tables import SUMMARY_ROWS, score_table, write_csv

__all__ = [
    "SUMMARY_ROWS",
    "ClipScores",
    "ScoreOptions",
    "Scores",
    "Source",
    "score",
    "score_clips",
    "score_table",
    "write_csv",
]
