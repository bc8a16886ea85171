"""A local S3 server, and a web server that serves parts of files, both on loopback and empty at the start of a test."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="s3:// is opened by s3fs, of the extra remote")
    server = pytest.importorskip("moto.server", reason="the S3 server of these tests is moto's")
    found = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    found.start()
    yield "http://{}:{}".format(*found.get_host_and_port())
    found.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch) -> Iterator[str]:
    """Return the URL of an empty bucket; what says how to reach it is in the environment, as for users."""
    import fsspec

    for name, value in {
        "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_server,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.mkdir("scans")
    yield "s3://scans"
    system.rm("scans", recursive=True)


class InParts(http.server.SimpleHTTPRequestHandler):
    """Serves files, and parts of files, with a tag; counts the bytes it sent."""

    sent = 0

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not path.is_file() or asked is None:
            return super().do_GET()
        content = path.read_bytes()
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        if first >= len(content):
            return self.send_error(416)
        self.send_response(206)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[first : last + 1])
        type(self).sent += last + 1 - first

    def list_directory(self, path: str) -> None:
        self.send_error(404)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def web(tmp_path) -> Iterator[tuple[str, Path]]:
    """Return the address of a web server, and the folder that it serves."""
    pytest.importorskip("aiohttp", reason="https:// is opened by fsspec with aiohttp, of the extra remote")
    folder = tmp_path / "web"
    folder.mkdir()
    InParts.sent = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(InParts, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()
    shutil.rmtree(folder)
