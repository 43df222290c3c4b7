"""The page: one HTML file that asks nothing of the network: pictures, figures, styles and scripts
are all in it."""

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from vsr import __version__
from vsr.evaluate.report.content import ReportContent, Role, printable
from vsr.evaluate.report.data import EncodedMoment, page_data
from vsr.evaluate.report.frames import ReportFrames

SCRIPTS = ("state.js", "viewer.js", "loops.js", "plots.js", "main.js")
"""Scripts in the order in which they run, as one."""
MAX_LISTED = 50
"""Entries of one list in the record that is shown."""


def render(
    subject: ReportContent, report_frames: ReportFrames, encoded: list[EncodedMoment], storage: str
) -> str:
    """Render the whole document. `storage` tells how the pictures are kept."""
    script = "".join(_asset(name) for name in SCRIPTS)
    plotly, plotly_hash = _gzipped_plotly()
    record = json.dumps(_without_long_lists(subject.record), indent=2, ensure_ascii=False)
    page = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters["printable"] = printable
    return page.from_string(_asset("page.html")).render(
        subject=subject,
        record=record,
        storage=storage,
        summary=subject.summary or _summary(subject, report_frames),
        version=__version__,
        style=_asset("page.css"),
        script=script,
        script_hashes=f"'{_csp_hash(script)}' '{plotly_hash}'",
        plotly=plotly,
        data=safe_json(page_data(subject, report_frames, encoded)),
    )


def _summary(subject: ReportContent, report_frames: ReportFrames) -> str:
    results = sum(version.role is Role.RESULT for version in subject.versions)
    shots = f"{len(subject.cuts) + 1} shots" if subject.cuts else "one shot"
    roles = {version.role for version in subject.versions}
    words = {Role.TRUTH: "the truth", Role.ENLARGED: "the input enlarged by bicubic interpolation"}
    against = [text for role, text in words.items() if role in roles]
    beside = f" beside {' and '.join(against)}" if against else ""
    clips = "One result" if results == 1 else f"{results} results"
    return (
        f"{clips}{beside}: {len(report_frames.seconds)} frames, {shots}, "
        f"{report_frames.seconds[-1]:.2f} s."
    )


def safe_json(value: Any) -> str:
    """Encode as strict JSON in ASCII that cannot end the script element that holds it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _without_long_lists(value: Any) -> Any:
    """Shorten a record for reading: figures of single frames are in the curves, the JSON and the
    CSV."""
    if isinstance(value, dict):
        return {key: _without_long_lists(item) for key, item in value.items() if key != "per_frame"}
    if isinstance(value, list | tuple):
        shown = [_without_long_lists(item) for item in value[:MAX_LISTED]]
        return (
            shown if len(value) <= MAX_LISTED else [*shown, f"and {len(value) - MAX_LISTED} more"]
        )
    return value


@cache
def _gzipped_plotly() -> tuple[str, str]:
    """Return the plotting library, gzipped as base64, and the hash by which the page's policy lets
    it run once unpacked."""
    source = get_plotlyjs()
    return base64.b64encode(gzip.compress(source.encode(), mtime=0)).decode(), _csp_hash(source)


def _csp_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (files("vsr.evaluate.report") / "assets" / name).read_text(encoding="utf-8")
