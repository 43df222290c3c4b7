"""`vsr ui`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vsr.cli.terminal import notify
from vsr.errors import OutputError, UsageError

if TYPE_CHECKING:
    import socket


def ui(
    port: Annotated[
        int, typer.Option("--port", metavar="N", help="Port on this machine; 0 takes a free one.")
    ] = 0,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            help="Folder of clips; repeatable. The first takes what is dropped. Default: this one.",
        ),
    ] = None,
    upload_limit: Annotated[
        float, typer.Option("--upload-limit", metavar="GB", help="Largest file that is taken.")
    ] = 16.0,
) -> None:
    """Open a local page for the whole job: choose a clip, preview, queue runs, watch and play. Only
    this machine can reach it, by the address that is printed."""
    import secrets

    import uvicorn

    from vsr.cli.local_page.library import Library
    from vsr.cli.local_page.queue import JobQueue
    from vsr.cli.local_page.server import LocalPage
    from vsr.pipeline.cache import cache_folder

    library = Library(folder or [Path.cwd()], round(upload_limit * 1e9))
    state = cache_folder().with_name("page")
    token = secrets.token_urlsafe(24)
    with _listening(port) as bound, _held(state):
        app = LocalPage(library, JobQueue(state), state, token).app()
        print(f"http://127.0.0.1:{bound.getsockname()[1]}/?token={token}", flush=True)
        notify("vsr: open this address in a browser; Ctrl-C ends the page, and keeps all work")
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            # A film that is being played must not keep the server from its end.
            timeout_graceful_shutdown=5,
        )
        uvicorn.Server(config).run(sockets=[bound])


@contextmanager
def _listening(port: int) -> "Iterator[socket.socket]":
    """Listen on a port of this machine alone. Raises UsageError where it is taken."""
    import socket

    if not 0 <= port < 65536:
        raise UsageError(f"--port is {port}; expected 0 to 65535.")
    with socket.socket() as bound:
        # A server that was killed a moment ago leaves its port waiting.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", port))
            # Before the address is printed: whoever opens it at once waits, and is not refused.
            bound.listen()
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used: {error.strerror}; name another, or leave --port out."
            ) from None
        yield bound


@contextmanager
def _held(state: Path) -> Iterator[None]:
    """Hold the folder of the queue for this server alone. Raises OutputError."""
    from vsr.files import FolderLock

    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(state, "its queue is being worked on")
        with lock:
            yield
    except OSError as error:
        raise OutputError(
            f"{state} cannot be written: {error.strerror}; name another folder with VSR_CACHE."
        ) from error
