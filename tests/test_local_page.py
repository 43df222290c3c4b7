"""The local page: closed to all but its user, and a queue of real commands that outlives it."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import uvicorn
from typer.testing import CliRunner

from tests.clips import moving_pictures, read_frames, two_shots, write_clip
from tests.test_page import HOSTILE, browser, slow_shots  # noqa: F401 (a fixture)
from vsr.cli import app as command_line
from vsr.cli.local_page.library import Library
from vsr.cli.local_page.queue import JobQueue
from vsr.cli.local_page.server import CHOICES, LocalPage
from vsr.errors import InputError, OutputError, UsageError

TOKEN = "the token of a test"
CLIP = "clip.mkv"


class Server:
    """The page as `vsr ui` serves it, in a thread of this process."""

    def __init__(self, folders, state, upload_limit=10**9):
        self.state = state
        self.queue = JobQueue(state)
        page = LocalPage(Library(folders, upload_limit), self.queue, state, TOKEN)
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(page.app(), log_level="error"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()

    def close(self):
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}/?token={quote(TOKEN)}"

    def ask(self, method, path, body=None, token=TOKEN, headers=None, **query):
        pairs = {"token": token, **query} if token is not None else query
        text = "&".join(f"{name}={quote(value)}" for name, value in pairs.items())
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, f"{path}?{text}", body, headers or {})
        answer = connection.getresponse()
        return answer, answer.read()

    def told(self, method, path, body=None, **query):
        answer, content = self.ask(method, path, body, **query)
        return answer.status, json.loads(content)

    def clips(self):
        return {clip["name"]: clip["id"] for clip in self.told("GET", "/api/state")[1]["clips"]}

    def jobs(self):
        return self.told("GET", "/api/state")[1]["jobs"]

    def add(self, name, kind="run", choices=None, **more):
        asked = {"kind": kind, "clip": self.clips()[name], "choices": choices or {}, **more}
        return self.told("POST", "/api/jobs", json.dumps(asked))

    def wait(self, condition, seconds=240):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition(self.jobs()):
                return self.jobs()
            time.sleep(0.3)
        raise AssertionError(self.jobs())


@contextmanager
def serving(*arguments, **options):
    server = Server(*arguments, **options)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(folder / CLIP, two_shots(16, 36, 64))
    return folder


@pytest.fixture
def server(folder, tmp_path):
    with serving([folder], tmp_path / "state", upload_limit=50_000) as running:
        yield running


QUICKLY = {"quality": "interpolation", "size": "x2"}


# Who may do what


def test_without_the_token_every_path_answers_403(server):
    for method, path in (
        ("GET", "/"),
        ("GET", "/page.js"),
        ("GET", "/api/state"),
        ("PUT", "/api/clips"),
        ("POST", "/api/jobs"),
        ("GET", "/nothing/at/all"),
        ("GET", "/../../etc/passwd"),
    ):
        for token in (None, "", "another"):
            assert server.ask(method, path, token=token)[0].status == 403
    assert server.ask("GET", "/")[0].status == 200
    assert server.ask("GET", "/nothing")[0].status == 404


def test_another_name_of_this_machine_is_refused(server):
    assert server.ask("GET", "/", headers={"Host": "evil.example"})[0].status == 403
    assert server.ask("GET", "/", headers={"Host": f"localhost:{server.port}"})[0].status == 200


def test_every_answer_has_a_policy_and_is_not_kept(server):
    for path in ("/", "/page.js", "/page.css", "/api/state"):
        answer, _ = server.ask("GET", path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_nothing_outside_the_folders_is_listed_or_served(server, folder, tmp_path):
    outside = write_clip(tmp_path / "outside.mkv", moving_pictures(2))
    (folder / "link.mkv").symlink_to(outside)
    (folder / "linked").symlink_to(tmp_path)
    (folder / "notes.txt").write_text("no clip")
    (folder / ".hidden.mkv").write_bytes(b"")
    assert list(server.clips()) == [CLIP]
    for identifier in ("..", "%2e%2e", quote("../outside.mkv", safe=""), "0" * 20):
        assert server.ask("GET", f"/api/clips/{identifier}/shots")[0].status == 404
    job = server.add(CLIP, choices=QUICKLY)[1]["id"]
    server.told("POST", f"/api/jobs/{job}/stop", "{}")
    record = server.queue.folder_of(server.queue.find(job)) / "manifest.json"
    record.write_text(json.dumps({"output": str(outside)}))
    assert server.ask("GET", f"/jobs/{job}/result")[0].status == 404


def test_a_dropped_file_is_taken_in_whole_and_replaces_nothing(server, folder):
    content = b"x" * 40_000
    status, told = server.told("PUT", "/api/clips", content, name="C:\\videos\\new.mp4")
    assert (status, told["name"]) == (200, "new.mp4")
    assert (folder / "new.mp4").read_bytes() == content
    status, told = server.told("PUT", "/api/clips", b"other", name="new.mp4")
    assert status == 409
    assert "exists already" in told["error"]
    assert (folder / "new.mp4").read_bytes() == content


@pytest.mark.parametrize("name", ["../up.txt", ".hidden.mp4", "", "a\nb.mp4", "x" * 300 + ".mp4"])
def test_a_name_that_will_not_do_is_refused(server, folder, name):
    assert server.told("PUT", "/api/clips", b"x", name=name)[0] == 400
    assert {path.name for path in folder.iterdir()} == {CLIP}


def test_a_file_beyond_the_limit_is_refused_stated_or_not(server, folder):
    assert server.told("PUT", "/api/clips", b"x" * 60_000, name="large.mp4")[0] == 413

    async def endless():
        while True:
            yield b"x" * 9_000

    library = Library([folder], 50_000)
    with pytest.raises(UsageError, match="larger than the limit"):
        asyncio.run(library.take_in("large.mp4", None, endless()))
    assert {path.name for path in folder.iterdir()} == {CLIP}


def test_only_choices_of_the_page_become_options(server):
    assert server.add(CLIP, choices={"quality": "--policy"})[0] == 400
    assert server.add(CLIP, kind="train")[0] == 400
    assert server.told("POST", "/api/jobs", "[1]")[0] == 400
    assert server.told("POST", "/api/jobs", "x" * 100_000)[0] == 413
    assert server.jobs() == []
    for name, values in CHOICES.items():
        assert [] in values.values(), f"{name} has no choice that stands for the default"


def test_a_folder_that_is_none_and_a_port_in_use_are_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="is not a folder"):
        Library([tmp_path / "nowhere"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = CliRunner().invoke(
            command_line, ["ui", "--folder", str(tmp_path), "--port", str(port)]
        )
    assert isinstance(refused.exception, UsageError)
    assert f"port {port} cannot be used" in str(refused.exception)


def test_a_second_server_of_one_queue_is_refused(tmp_path, monkeypatch):
    from vsr.files import FolderLock

    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    (tmp_path / "page").mkdir()
    with FolderLock(tmp_path / "page", "its queue is being worked on"):
        refused = CliRunner().invoke(command_line, ["ui", "--folder", str(tmp_path)])
    assert isinstance(refused.exception, OutputError)
    assert f"process {os.getpid()}" in str(refused.exception)


# The queue


def test_a_run_is_made_by_a_real_command_and_its_result_and_report_are_served(server, folder):
    assert server.add(CLIP, choices=QUICKLY)[0] == 200
    (job,) = server.wait(lambda jobs: jobs[0]["state"] not in ("waiting", "running"))
    assert (job["state"], job["code"], job["result"]) == ("done", 0, "clip_x2.mkv")
    assert len(read_frames(folder / "clip_x2.mkv")) == 16
    answer, content = server.ask("GET", f"/jobs/{job['id']}/report")
    assert b"page-data" in content
    assert answer.headers["Content-Security-Policy"].startswith("sandbox allow-scripts;")
    part, content = server.ask(
        "GET", f"/jobs/{job['id']}/result", headers={"Range": "bytes=0-9", "Host": "127.0.0.1:1"}
    )
    assert (part.status, content) == (206, (folder / "clip_x2.mkv").read_bytes()[:10])
    assert server.ask("GET", f"/jobs/{job['id']}/result.webp")[1][:4] == b"RIFF"


def test_jobs_that_wait_can_be_stopped_go_on_and_be_removed_and_are_remembered(folder, tmp_path):
    queue = JobQueue(tmp_path / "state")
    first, second = (queue.add("run", folder / CLIP, CLIP, "", []) for _ in range(2))
    queue.stop(first)
    queue.stop(second)
    queue.go_on(queue.find(second.id))
    again = JobQueue(tmp_path / "state")
    assert [job.state for job in again.jobs] == ["stopped", "waiting"]
    again.remove(again.find(first.id))
    assert [job.id for job in JobQueue(tmp_path / "state").jobs] == [second.id]


# In a browser


SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}


@contextmanager
def opened(browser, address, size="wide", theme="light"):  # noqa: F811
    context = browser.new_context(viewport=SIZES[size], color_scheme=theme)
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached")
    yield page
    context.close()
    assert complaints == []


@pytest.mark.parametrize("size", SIZES)
def test_a_hostile_name_is_shown_as_it_is_and_nothing_sticks_out(server, folder, browser, size):  # noqa: F811
    shutil.copy(folder / CLIP, folder / HOSTILE)
    with opened(browser, server.address, size) as page:
        page.get_by_text(HOSTILE).click()
        assert page.text_content("#chosen-name") == HOSTILE
        assert page.title() == "vsr"
        assert page.locator("#clips img, #chosen-heading img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_is_used_by_keyboard_alone_and_follows_the_theme(server, browser):  # noqa: F811
    paper = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, server.address, theme="dark") as page:
        dark = page.evaluate(paper)
        page.emulate_media(color_scheme="light")
        assert page.evaluate(paper) != dark
        reached = []
        for _ in range(16):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.name || document.activeElement.id")
            )
            if reached[-1] == "clip":
                page.keyboard.press("Space")
                page.wait_for_selector("#chosen:not([hidden])")
        assert {"file", "filter", "clip", "run", "preview", *CHOICES} <= set(reached)


@contextmanager
def served_by_command(folder, cache):
    """The page of a real `vsr ui`, and its process."""
    environment = os.environ | {"VSR_CACHE": str(cache)}
    command = [sys.executable, "-m", "vsr", "ui", "--folder", str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


@pytest.mark.slow
def test_the_whole_way_from_a_dropped_clip_to_the_played_result(tmp_path, browser):  # noqa: F811
    folder, cache = tmp_path / "clips", tmp_path / "cache"
    folder.mkdir()
    dropped = write_clip(tmp_path / "dropped.mp4", slow_shots(24, 36, 64))
    with served_by_command(folder, cache) as (_, address), opened(browser, address) as page:
        page.set_input_files("#file", dropped)
        page.wait_for_selector("#shots li:nth-child(2) img", timeout=120_000)
        assert "2 shots" in page.text_content("#shots-words")
        page.select_option("[name=quality]", "interpolation")
        page.select_option("[name=size]", "x2")
        page.focus("#run")
        page.keyboard.press("Enter")
        page.wait_for_selector("li[data-state=done]", timeout=240_000)
        page.get_by_role("button", name="Play").press("Enter")
        # Asked from here: the page's policy forbids what waits inside of it.
        for _ in range(120):
            if page.evaluate("document.querySelector('video')?.currentTime > 0.2"):
                break
            page.wait_for_timeout(500)
        assert page.evaluate("document.querySelector('video').currentTime") > 0.2
        with page.context.expect_page() as report:
            page.get_by_role("link", name="Report").click()
        report.value.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)


@pytest.mark.slow
def test_ten_runs_are_queued_and_go_on_when_the_server_is_killed(tmp_path):
    folder, cache = tmp_path / "clips", tmp_path / "cache"
    folder.mkdir()
    for number in range(10):
        write_clip(folder / f"{number}.mkv", moving_pictures(6, 32, 48, seed=number))

    def ask(address, method, path, body=None):
        where = urlsplit(address)
        connection = HTTPConnection("127.0.0.1", where.port, timeout=60)
        connection.request(method, f"{path}?token={parse_qs(where.query)['token'][0]}", body)
        return json.loads(connection.getresponse().read())

    with served_by_command(folder, cache) as (process, address):
        for clip in ask(address, "GET", "/api/state")["clips"]:
            asked = {"kind": "run", "clip": clip["id"], "choices": QUICKLY}
            ask(address, "POST", "/api/jobs", json.dumps(asked))
        while not (folder / "1_x2.mkv").exists():
            time.sleep(0.2)
        process.kill()
        process.wait()
    with served_by_command(folder, cache) as (_, address):
        states = []
        while states != ["done"] * 10:
            states = [job["state"] for job in ask(address, "GET", "/api/state")["jobs"]]
            assert "failed" not in states
            time.sleep(0.5)
    results = sorted(path.name for path in folder.glob("*_x2.mkv"))
    assert results == [f"{number}_x2.mkv" for number in range(10)]


def test_nothing_of_the_web_server_is_imported_by_other_commands():
    root = Path(__file__).parents[1] / "vsr"
    users = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"^ *(?:import|from) (?:starlette|uvicorn)", path.read_text(), re.M)
    }
    assert users == {"cli/ui.py", "cli/local_page/server.py"}
    # The command itself imports them only once it runs.
    assert not re.search(
        r"^(?:import|from) (?:starlette|uvicorn|vsr\.cli\.local_page)",
        (root / "cli" / "ui.py").read_text(),
        re.M,
    )
