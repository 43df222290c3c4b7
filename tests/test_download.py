"""Weight files are fetched only when asked for, and only what the publisher's hash vouches for."""

import errno
import hashlib
import os
import re
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vsr.cli import app
from vsr.errors import ModelError, OutputError, UsageError
from vsr.models import download as downloads
from vsr.models import weights
from vsr.models.download import download

CONTENT = bytes(range(256)) * 4000
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class Publisher(ThreadingHTTPServer):
    """A server on loopback that serves one content, or misbehaves as it is told."""

    content = CONTENT
    cut_after = None
    status = 200
    knows_ranges = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._head(0)

    def do_GET(self):
        asked = self.headers.get("Range") if self.server.knows_ranges else None
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self._head(first)
        if self.server.status == 200:
            # Cut off: the promised length is never reached.
            self.wfile.write(self.server.content[first : self.server.cut_after])

    def _head(self, first):
        server = self.server
        server.asked.append((self.command, self.path, first))
        if first and first >= len(server.content):
            self.send_response(416)
        else:
            self.send_response(server.status if not first else 206)
        self.send_header("Content-Length", str(len(server.content) - first))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def publisher(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Publisher()
    yield server
    server.shutdown()


def file_at(address):
    digits = NAME.removeprefix("net-").removesuffix(".pth")
    return weights.WeightFile(NAME, "nowhere", (NAME,), digits, "MIT", f"{address}/{NAME}")


def fetch(publisher, folder, progress=lambda *_: None):
    return download(file_at(publisher.address), folder, progress)


def contents(folder):
    return {path.name for path in folder.iterdir() if path.name != ".vsr-weights-lock"}


def test_a_file_is_fetched_whole_and_keeps_nothing_beside_it(publisher, tmp_path):
    told = []
    path = fetch(publisher, tmp_path / "new", lambda *done: told.append(done))
    assert path.read_bytes() == CONTENT
    assert contents(tmp_path / "new") == {NAME}
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_file_that_is_there_is_not_fetched_again_but_a_damaged_one_is(publisher, tmp_path):
    path = fetch(publisher, tmp_path)
    asked = len(publisher.asked)
    assert fetch(publisher, tmp_path) == path
    assert len(publisher.asked) == asked
    path.write_bytes(CONTENT[:100])
    assert fetch(publisher, tmp_path).read_bytes() == CONTENT


def test_a_wrong_content_is_refused_and_deleted(publisher, tmp_path):
    publisher.content = CONTENT[:-1] + b"x"
    with pytest.raises(ModelError, match=r"has the hash [0-9a-f]{12}\.\.\., expected"):
        fetch(publisher, tmp_path)
    assert contents(tmp_path) == set()


def test_a_connection_that_broke_off_is_gone_on_from(publisher, tmp_path):
    publisher.cut_after = 300_000
    with pytest.raises(ModelError, match=r"broke off after 0\.3 MB"):
        fetch(publisher, tmp_path)
    assert NAME not in contents(tmp_path)
    publisher.cut_after = None
    assert fetch(publisher, tmp_path).read_bytes() == CONTENT
    # What a broken chunk held is lost, and nothing else.
    assert 300_000 - downloads.CHUNK_BYTES <= publisher.asked[-1][2] <= 300_000
    assert contents(tmp_path) == {NAME}


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(publisher, tmp_path):
    publisher.cut_after = 300_000
    with pytest.raises(ModelError):
        fetch(publisher, tmp_path)
    publisher.cut_after, publisher.knows_ranges = None, False
    assert fetch(publisher, tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_whole_already_only_gets_its_name(publisher, tmp_path):
    (tmp_path / f".{NAME}.part").write_bytes(CONTENT)
    assert fetch(publisher, tmp_path).read_bytes() == CONTENT


def test_without_a_network_one_line_says_so(tmp_path, publisher, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = file_at(f"http://127.0.0.1:{port}")
    with pytest.raises(ModelError, match=r"cannot be reached \(Connection refused\)") as refused:
        download(file, tmp_path, lambda *_: None)
    assert "\n" not in str(refused.value)


def test_an_answer_that_is_no_file_is_told_by_its_number(publisher, tmp_path):
    publisher.status = 404
    with pytest.raises(ModelError, match="answers 404 Not Found"):
        fetch(publisher, tmp_path)
    assert contents(tmp_path) == set()


def test_a_full_disk_is_said_before_anything_is_fetched(publisher, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        downloads.shutil, "disk_usage", lambda _: type(usage)(usage.total, usage.total - 99, 99)
    )
    with pytest.raises(OutputError, match="No space left on device"):
        fetch(publisher, tmp_path)
    assert contents(tmp_path) == set()


def test_a_disk_that_fills_up_keeps_what_is_there(publisher, tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_):
        raise full

    with pytest.raises(OutputError, match="No space left"):
        fetch(publisher, tmp_path, fail)
    monkeypatch.undo()
    assert fetch(publisher, tmp_path).read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is full")
def test_a_folder_that_cannot_be_made_is_named(publisher):
    with pytest.raises(OutputError, match="cannot be written"):
        fetch(publisher, Path("/dev/full/weights"))


def test_a_proxy_of_the_environment_is_asked(publisher, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", publisher.address)
    monkeypatch.setenv("NO_PROXY", "")
    download(file_at("http://weights.example"), tmp_path, lambda *_: None)
    assert publisher.asked == [("GET", f"http://weights.example/{NAME}", 0)]


# The command


@pytest.fixture
def offered(publisher, tmp_path, monkeypatch):
    """The smallest of the published files, as a server has it; found by the command."""
    monkeypatch.setenv("VSR_WEIGHTS_MIRROR", publisher.address)
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return publisher


def get(*arguments, answer=""):
    return CliRunner().invoke(app, ["weights", "get", *arguments], input=answer)


def test_the_command_shows_size_and_license_and_asks_once(offered, tmp_path):
    declined = get("lpips:squeeze", answer="n\n")
    assert declined.exit_code == 0
    shown = declined.stderr
    assert "squeezenet1_1-b8a52dc0.pth: 1.0 MB, BSD-3-Clause" in shown
    assert f"Download to {tmp_path / 'weights'}?" in shown
    assert "nothing was downloaded" in shown
    assert [method for method, *_ in offered.asked] == ["HEAD"]
    nobody = get("lpips:squeeze")
    assert isinstance(nobody.exception, UsageError)
    assert "give -y" in str(nobody.exception)


def test_the_command_refuses_what_is_not_the_published_file(offered, tmp_path):
    refused = get("lpips:squeeze", "-y")
    assert isinstance(refused.exception, ModelError)
    assert "expected b8a52dc0" in str(refused.exception)
    assert contents(tmp_path / "weights") == set()


def test_a_file_whose_hash_nobody_states_is_listed_and_not_fetched(offered):
    listed = get("brisque", "-y")
    assert listed.exception.exit_code == 5
    assert "not fetched: no brisque_model_live.yml (from https://github.com/" in listed.stderr
    assert offered.asked == []


def test_what_needs_no_weights_is_not_asked_for(offered):
    for name in ("niqe", "psnr"):
        assert get(name).exit_code == 0
    assert offered.asked == []


def test_an_unknown_name_is_answered_with_the_nearest():
    assert "did you mean lpips" in str(get("lpipz").exception)


def test_every_address_ends_in_the_digits_of_the_hash():
    files = [each for each in vars(weights).values() if isinstance(each, weights.WeightFile)]
    fetched = [file for file in files if file.address]
    assert len(fetched) == 6
    for file in fetched:
        assert file.address.startswith("https://")
        assert file.address.endswith(f"-{file.sha256}.pth")
        assert file.address.endswith(f"/{file.name}")


def test_nothing_but_the_command_can_download():
    users = [
        path.name
        for path in (Path(__file__).parents[1] / "vsr").rglob("*.py")
        if re.search(
            r"^ *(import|from) (vsr\.models\.download|pooch|requests)\b", path.read_text(), re.M
        )
        and path.name != "download.py"
    ]
    assert users == ["weights.py"]
