"""The web server of `vsr ui`: for this machine alone, and only for who knows its token."""

import asyncio
import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from vsr.cli.local_page.library import Clip, Library, UploadTooLargeError
from vsr.cli.local_page.queue import Job, JobQueue
from vsr.errors import InputError, OutputError, UsageError, VsrError
from vsr.text import printable

TICK_SECONDS = 0.25
MAX_BODY_BYTES = 64 * 1024
"""Limit of a request that is not a file."""
LOCAL_HOSTS = ("127.0.0.1", "localhost")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Policy of reports, which are pages of their own: kept from everything else that is served here.
What their scripts may be, their own policy says by hashes."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

CHOICES: dict[str, dict[str, list[str]]] = {
    "quality": {
        "fast": ["--quality", "fast"],
        "balanced": [],
        "best": ["--quality", "best"],
        "one model": ["--policy", "smi"],
        "interpolation": ["--policy", "bicubic"],
    },
    "size": {
        "x2": ["--scale", "2"],
        "x3": ["--scale", "3"],
        "x4": [],
        "720 lines": ["--height", "720"],
        "1080 lines": ["--height", "1080"],
        "2160 lines": ["--height", "2160"],
    },
    "flicker": {
        "automatic": [],
        "off": ["--steady", "0"],
        "strong": ["--steady", "0.99"],
    },
    "restore": {"automatic": [], "off": ["--restore", "0"], "full": ["--restore", "1"]},
    "fields": {
        "automatic": [],
        "off": ["--deinterlace", "off"],
        "one frame of two fields": ["--deinterlace", "frame"],
        "two frames of two fields": ["--deinterlace", "field"],
        "film": ["--deinterlace", "film"],
    },
}
"""Choices on the page, and the options that stand for them; only these reach a command."""
FOR_PREVIEWS = ("size", "restore", "fields")


class TokenGate:
    """A gate in front of all paths: 403 without the token, or for another host's name."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = hosts[0].decode("latin-1").rsplit(":", 1)[0] if hosts else ""
        # A page elsewhere could have its own name lead here.
        is_known = hmac.compare_digest(given.encode(), self._token) and host in LOCAL_HOSTS
        if scope["type"] == "http" and is_known:
            await self._app(scope, receive, send)
        else:
            refused = Response("403: open the address that vsr ui printed\n", 403, HEADERS)
            await refused(scope, receive, send)


class LocalPage:
    """Answers of the server, path by path."""

    def __init__(self, library: Library, queue: JobQueue, folder: Path, token: str) -> None:
        self._library, self._queue, self._token = library, queue, token
        self._looks = folder / "looks"
        self._looking: dict[str, subprocess.Popen[bytes]] = {}

    def app(self) -> Starlette:
        """Make the application."""
        routes = [
            Route("/", self._page),
            Route("/page.js", self._asset),
            Route("/page.css", self._asset),
            Route("/api/state", self._state),
            Route("/api/clips", self._upload, methods=["PUT"]),
            Route("/api/clips/{clip}/shots", self._shots),
            Route("/api/clips/{clip}/shots/{shot:int}", self._keyframe),
            Route("/api/jobs", self._add, methods=["POST"]),
            Route("/api/jobs/{job}/{what:str}", self._command, methods=["POST"]),
            Route("/jobs/{job}/report", self._report),
            Route("/jobs/{job}/result", self._result),
            Route("/jobs/{job}/{which:str}.webp", self._frame),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(TokenGate, token=self._token)],
            lifespan=self._lifespan,
            exception_handlers={VsrError: _told},
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async def work() -> None:
            while True:
                with suppress(OSError):
                    self._queue.tick()
                await asyncio.sleep(TICK_SECONDS)

        task = asyncio.create_task(work())
        yield
        task.cancel()
        for child in self._looking.values():
            child.terminate()
        await asyncio.to_thread(self._queue.close)

    async def _page(self, _: Request) -> Response:
        from jinja2 import Environment, StrictUndefined

        page = Environment(autoescape=True, undefined=StrictUndefined)
        text = page.from_string(_asset("page.html")).render(token=self._token, choices=CHOICES)
        return Response(text, headers=_headers(POLICY), media_type="text/html")

    async def _asset(self, request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        kind = "text/javascript" if name.endswith(".js") else "text/css"
        return Response(_asset(name), headers=_headers(POLICY), media_type=kind)

    async def _state(self, _: Request) -> Response:
        clips = await asyncio.to_thread(self._library.clips)
        return _json(
            {
                "clips": [
                    {"id": clip.id, "name": clip.name, "bytes": clip.size_bytes} for clip in clips
                ],
                "jobs": [self._queue.describe(job) for job in self._queue.jobs],
            }
        )

    async def _upload(self, request: Request) -> Response:
        length = request.headers.get("content-length", "")
        clip = await self._library.take_in(
            request.query_params.get("name", ""),
            int(length) if length.isdecimal() else None,
            request.stream(),
        )
        return _json({"id": clip.id, "name": clip.name})

    async def _shots(self, request: Request) -> Response:
        clip = self._library.find(request.path_params["clip"])
        folder = self._look_folder(clip)
        found = folder / "shots.json"
        if found.exists():
            return _json(json.loads(found.read_bytes()))
        child = self._looking.get(clip.id)
        if child is None:
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "vsr.cli.local_page.look", str(clip.path), str(folder)]
            self._looking[clip.id] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        elif child.poll() is not None:
            del self._looking[clip.id]
            if not found.exists():
                return _json({"error": "this clip cannot be looked at: its reader has crashed."})
        return _json({"state": "looking"})

    async def _keyframe(self, request: Request) -> Response:
        clip = self._library.find(request.path_params["clip"])
        picture = self._look_folder(clip) / f"{request.path_params['shot']}.webp"
        return _file(picture, "image/webp", POLICY)

    async def _add(self, request: Request) -> Response:
        asked = await _body(request)
        clip = self._library.find(str(asked.get("clip")))
        kind = asked.get("kind")
        if kind not in ("run", "preview"):
            raise UsageError("expected kind to be run or preview.")
        chosen = asked.get("choices")
        if not isinstance(chosen, dict):
            raise UsageError("expected choices.")
        options: list[str] = []
        words = []
        for name, values in CHOICES.items():
            word = chosen.get(name, next(iter(values)) if name != "quality" else "balanced")
            if word not in values:
                raise UsageError(f"{name} is {printable(str(word))[:40]!r}; expected a choice.")
            if kind == "run" or name in FOR_PREVIEWS:
                options += values[word]
                words += [f"{name} {word}"] if values[word] else []
        if kind == "run" and asked.get("replace") is True:
            options.append("-y")
        words = words or ["as vsr chooses"]
        job = self._queue.add(kind, clip.path, clip.name, ", ".join(words), options)
        return _json({"id": job.id})

    async def _command(self, request: Request) -> Response:
        job = self._job(request)
        commands: dict[str, Callable[[Job], None]] = {
            "stop": self._queue.stop,
            "go": self._queue.go_on,
            "remove": self._queue.remove,
        }
        what = request.path_params["what"]
        if what not in commands:
            return Response("404\n", 404, HEADERS)
        commands[what](job)
        return _json({})

    async def _report(self, request: Request) -> Response:
        page = self._queue.folder_of(self._job(request)) / "page.html"
        return _file(page, "text/html", REPORT_POLICY)

    async def _result(self, request: Request) -> Response:
        made = self._queue.result_of(self._job(request))
        # The record tells where the result lies; only the folders that were given are served.
        if made is None or not self._library.holds(made) or not made.is_file():
            raise InputError("the result is not there any more.")
        kinds = {".mp4": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
        kind = kinds.get(made.suffix.lower(), "video/x-matroska")
        return _file(made, kind, POLICY)

    async def _frame(self, request: Request) -> Response:
        which = request.path_params["which"]
        if which not in ("source", "result"):
            return Response("404\n", 404, HEADERS)
        picture = self._queue.folder_of(self._job(request)) / f"{which}.webp"
        return _file(picture, "image/webp", POLICY)

    def _job(self, request: Request) -> Job:
        return self._queue.find(request.path_params["job"])

    def _look_folder(self, clip: Clip) -> Path:
        # A clip that was changed is looked at anew.
        status = clip.path.stat()
        key = f"{clip.id} {status.st_size} {status.st_mtime_ns}"
        return self._looks / hashlib.sha256(key.encode()).hexdigest()[:20]


async def _told(_: Request, error: Exception) -> Response:
    """Answer a user's mistake with its one line."""
    if isinstance(error, UploadTooLargeError):
        status = 413
    else:
        statuses: dict[type, int] = {UsageError: 400, InputError: 404, OutputError: 409}
        status = statuses.get(type(error), 500)
    return _json({"error": printable(str(error))}, status)


async def _body(request: Request) -> dict[str, Any]:
    text = b""
    async for chunk in request.stream():
        text += chunk
        if len(text) > MAX_BODY_BYTES:
            raise UploadTooLargeError("the request is too large.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError("expected a JSON object.")
    return found


def _json(value: object, status: int = 200) -> Response:
    return JSONResponse(value, status, _headers(POLICY))


def _file(path: Path, kind: str, policy: str) -> Response:
    if not path.is_file():
        return Response("404: not there\n", 404, HEADERS)
    return FileResponse(path, headers=_headers(policy), media_type=kind)


def _headers(policy: str) -> dict[str, str]:
    return HEADERS | {"Content-Security-Policy": policy}


def _asset(name: str) -> str:
    return (files("vsr.cli.local_page") / "assets" / name).read_text(encoding="utf-8")
