"""Report: one self-contained page on which one sees where, when and why a result is better."""

from pathlib import Path

from vsr.errors import OutputError
from vsr.evaluate import Scores
from vsr.evaluate.report.content import ReportContent
from vsr.evaluate.report.data import encode_moments
from vsr.evaluate.report.document import render
from vsr.evaluate.report.frames import ReportFrames, collect_frames
from vsr.evaluate.report.moments import choose_moments, num_moments
from vsr.evaluate.report.run import check_run_files, run_report_content
from vsr.evaluate.report.scores import score_report_content
from vsr.files import write_atomically
from vsr.pipeline.manifest import Manifest
from vsr.progress import FrameProgress

__all__ = ["check_run_files", "write_page", "write_pictures", "write_run_page", "write_score_page"]

MAX_IMAGE_BYTES = 9_000_000
"""Room for pictures as text. Scripts and curves take 2 MB each at most: a page stays under 15
MB."""


def write_score_page(scores: Scores, path: Path, progress: FrameProgress | None = None) -> None:
    """Show scored clips beside each other; they are read once more.

    Raises InputError where a clip has gone, OutputError where the page cannot be written.
    """
    write_page(score_report_content(scores), path, progress)


def write_run_page(
    manifest: Manifest,
    path: Path,
    reference: str | Path | None = None,
    progress: FrameProgress | None = None,
) -> None:
    """Show the result of a run beside its enlarged input, and the truth where there is one.

    Raises UsageError where the clip or its result was piped, InputError and OutputError as
    `write_score_page`.
    """
    write_page(run_report_content(manifest, reference), path, progress)


def write_page(subject: ReportContent, path: Path, progress: FrameProgress | None = None) -> None:
    """Read the clips of a page, and write it whole or not at all."""
    moments = choose_moments(
        subject.frames, subject.compared_curves(), num_moments(len(subject.versions))
    )
    write_pictures(
        subject, collect_frames(subject.versions, subject.leader, moments, progress), path
    )


def write_pictures(subject: ReportContent, report_frames: ReportFrames, path: Path) -> None:
    """Write a page of pictures that were gathered already, whole or not at all.

    Raises OutputError.
    """
    encoded, storage = encode_moments(report_frames.samples, MAX_IMAGE_BYTES)
    text = render(subject, report_frames, encoded, storage)
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}. Choose another place for the page."
        ) from None
