"""A queue of `vsr` commands: each a child process that outlives the page and the server."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vsr.cli.terminal import EXIT_DAMAGED, EXIT_INTERRUPTED, NEWEST_FRAME_VARIABLE
from vsr.errors import ModelError, UsageError
from vsr.files import write_atomically
from vsr.records import Origin, from_json, to_table
from vsr.text import printable

JobState = Literal["waiting", "running", "stopped", "done", "failed"]
MAX_ATTEMPTS = 3
"""Starts of one command that a server has not seen the end of."""
LOG_BYTES = 8192
_PROGRESS = re.compile(r"^[a-z ]+: (?:frame |step )?(\d+) of (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """One command, as the queue keeps it."""

    id: str
    kind: Literal["run", "preview"]
    clip: str
    """Path of the clip."""
    name: str
    """Name of the clip to show."""
    words: str
    """Choices, in a few words."""
    options: tuple[str, ...]
    """Options of the command."""
    state: JobState = "waiting"
    process: int | None = None
    attempts: int = 0
    code: int | None = None
    """Exit code of the command."""


@dataclass(frozen=True)
class _Record:
    jobs: tuple[Job, ...] = ()


class JobQueue:
    """Commands that run one after the other. What is in it survives the server."""

    def __init__(self, folder: Path) -> None:
        """Read the queue of an earlier server from `folder`. Raises ModelError where its record is
        broken."""
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        record = folder / "queue.json"
        self.jobs: list[Job] = []
        if record.exists():
            origin = Origin(str(record), ModelError, lenient=True)
            self.jobs = list(from_json(_Record, record.read_bytes(), origin).jobs)

    def add(
        self, kind: Literal["run", "preview"], clip: Path, name: str, words: str, options: list[str]
    ) -> Job:
        """Put a command at the end."""
        job = Job(secrets.token_hex(8), kind, str(clip), name, words, tuple(options))
        self.folder_of(job).mkdir(parents=True)
        self.jobs.append(job)
        self._save()
        return job

    def find(self, identifier: str) -> Job:
        """Find a job. Raises UsageError for an unknown one."""
        for job in self.jobs:
            if job.id == identifier:
                return job
        raise UsageError("this job is not in the queue any more.")

    def stop(self, job: Job) -> None:
        """End a job after its current frame; what it has made is kept."""
        if job.state == "waiting":
            self._change(job, state="stopped")
        elif job.state == "running" and job.process is not None:
            self._change(job, state="stopped")
            with suppress(ProcessLookupError):
                os.kill(job.process, signal.SIGINT)

    def go_on(self, job: Job) -> None:
        """Put a job that was stopped or has failed back into the queue."""
        # One that was stopped may still be finishing its frame; it is started when it has ended.
        if job.state in ("stopped", "failed"):
            self._change(job, state="waiting", attempts=0, code=None)

    def remove(self, job: Job) -> None:
        """Take a job out of the list; results stay."""
        if job.state == "running" or self._is_alive(job):
            raise UsageError("stop the job first.")
        self.jobs.remove(job)
        shutil.rmtree(self.folder_of(job), ignore_errors=True)
        self._save()

    def tick(self) -> None:
        """Notice commands that have ended, and start the next one; called several times a
        second."""
        for job in [job for job in self.jobs if job.process is not None]:
            if not self._is_alive(job):
                self._end(job)
        if not any(job.process is not None for job in self.jobs):
            for job in self.jobs:
                if job.state == "waiting":
                    self._start(job)
                    return

    def close(self) -> None:
        """Ask the command that runs to end after its frame; the next server goes on with it."""
        for job in self.jobs:
            if job.state == "running" and job.process is not None:
                with suppress(ProcessLookupError):
                    os.kill(job.process, signal.SIGINT)
                ended = self._child is not None and self._child.pid == job.process
                if ended and self._child is not None:
                    self._child.wait()
                # One that an earlier server began may still finish its frame: the next waits.
                self._change(job, state="waiting", process=None if ended else job.process)

    def folder_of(self, job: Job) -> Path:
        """Name the folder of a job's log, record and pages."""
        return self._folder / "jobs" / job.id

    def result_of(self, job: Job) -> Path | None:
        """Name the file that a run has made, once it is there."""
        try:
            made = json.loads((self.folder_of(job) / "manifest.json").read_bytes())["output"]
        except (OSError, ValueError, KeyError):
            return None
        return Path(made) if made else None

    def describe(self, job: Job) -> dict[str, object]:
        """Describe a job for the page."""
        folder = self.folder_of(job)
        log = _tail(folder / "log")
        counts = _PROGRESS.findall(log)
        share = int(counts[-1][0]) / max(1, int(counts[-1][1])) if counts else 0.0
        lines = [line for line in log.splitlines() if line.strip()]
        newest = folder / "newest.json"
        frame = None
        with suppress(OSError, ValueError):
            frame = json.loads(newest.read_bytes())
        page = folder / "page.html"
        return {
            "id": job.id,
            "kind": job.kind,
            "name": job.name,
            "words": job.words,
            "state": job.state,
            "code": job.code,
            "share": 1.0 if job.state == "done" else share,
            "line": _last_line(job, lines),
            "frame": frame,
            "has_page": page.exists(),
            "result": None if (made := self.result_of(job)) is None else printable(made.name),
        }

    def _start(self, job: Job) -> None:
        folder = self.folder_of(job)
        folder.mkdir(parents=True, exist_ok=True)
        page, record = folder / "page.html", folder / "manifest.json"
        own = ["-o", str(page), "-y"]
        if job.kind == "run":
            own = ["--json", str(record), "--report", str(page)]
        command = [sys.executable, "-m", "vsr", job.kind, job.clip, *job.options, *own]
        with (folder / "log").open("ab") as log:
            # A session of its own: neither Ctrl-C at the server nor its end reaches the command.
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {NEWEST_FRAME_VARIABLE: str(folder)},
                start_new_session=True,
            )
        self._change(
            job, state="running", process=self._child.pid, attempts=job.attempts + 1, code=None
        )

    def _end(self, job: Job) -> None:
        """Settle a job whose process is gone."""
        code: int | None = None
        if self._child is not None and self._child.pid == job.process:
            code = self._child.returncode
            self._child = None
        is_made = (self.folder_of(job) / "manifest.json").exists()
        if code in (0, EXIT_DAMAGED) or (code is None and job.kind == "run" and is_made):
            self._change(job, state="done", process=None, code=code)
        elif job.state != "running" or code == EXIT_INTERRUPTED:
            # Stopped by the user, or put back into the queue meanwhile.
            state = "stopped" if job.state == "running" else job.state
            self._change(job, state=state, process=None, code=code)
        elif code is None and job.attempts < MAX_ATTEMPTS:
            # Its server was killed, and so was it, by something else: the same command goes on.
            self._change(job, state="waiting", process=None)
        else:
            self._change(job, state="failed", process=None, code=code)

    def _is_alive(self, job: Job) -> bool:
        if job.process is None:
            return False
        if self._child is not None and self._child.pid == job.process:
            return self._child.poll() is None
        # Of an earlier server: another program may have its number by now.
        try:
            return job.id.encode() in Path(f"/proc/{job.process}/cmdline").read_bytes()
        except OSError:
            return False

    def _change(self, job: Job, **fields: object) -> None:
        place = next(at for at, one in enumerate(self.jobs) if one.id == job.id)
        self.jobs[place] = replace(self.jobs[place], **fields)  # type: ignore[arg-type]
        self._save()

    def _save(self) -> None:
        text = json.dumps(to_table(_Record(tuple(self.jobs))))
        write_atomically(self._folder / "queue.json", text.encode())


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _last_line(job: Job, lines: list[str]) -> str:
    """Choose the line that tells most: the message of a failure, else the newest."""
    if job.state == "failed":
        told = [line for line in lines if line.startswith(("vsr: ", "Error: "))]
        return printable((told or lines or ["it ended without a message"])[-1])
    return printable(lines[-1]) if lines else ""
