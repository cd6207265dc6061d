"""Files in CIFAR's binary format, of coloured textures; and an archive of them where the published one would be."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from lotteryfl.common.tasks.datasets import cifar

TEN = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
NOWHERE = "http://127.0.0.1:1"


def textures(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return uint8 images (examples, 3, 32, 32): stripes of a direction, width and colour of each class, and noise."""
    random, places = np.random.default_rng(seed), np.arange(32)
    angle, width, colour = labels * 0.31, 2.0 + labels % 5, np.stack([labels % 3, labels % 4, labels % 7], axis=1) / 6
    across = np.cos(angle)[:, None, None] * places[:, None] + np.sin(angle)[:, None, None] * places
    waves = np.sin(across / width[:, None, None] + random.uniform(0, 6, len(labels))[:, None, None])
    images = 90 + 60 * waves[:, None] + 70 * colour[:, :, None, None] + random.normal(0, 20, (len(labels), 3, 32, 32))
    return np.clip(images, 0, 255).astype(np.uint8)


def files_of_ten(each: int = 100, tests: int = 0) -> dict[str, bytes]:
    """Return files of CIFAR-10's names, with so many images each, or as many as is said for tests."""
    found = {}
    for number, name in enumerate(TEN):
        size = tests if tests and number == 5 else each
        labels = np.random.default_rng(number).permutation(np.arange(size) % 10)
        records = np.hstack([labels[:, None].astype(np.uint8), textures(labels, number).reshape(size, -1)])
        found[name] = records.tobytes()
    return found


def write_ten(folder: Path, each: int = 100, tests: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files_of_ten(each, tests).items():
        (folder / name).write_bytes(content)
    return folder


def packed(files: dict[str, bytes], folder: str = "cifar-10-batches-bin") -> bytes:
    """Return a tar.gz of them, with other things beside."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in {"readme.html": b"hello", "../outside.bin": b"x", **files}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo(f"{folder}/link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return content.getvalue()


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes, at: str = NOWHERE) -> None:
    """Have CIFAR-10's archive be this one, at that address."""
    version = cifar._VERSIONS["cifar10"]
    archive = replace(
        version.archive,
        url=f"{at}/cifar-10-binary.tar.gz",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    monkeypatch.setitem(cifar._VERSIONS, "cifar10", replace(version, archive=archive))


@contextmanager
def served(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Serve some bytes on loopback, whatever is asked for; yield the address, and what has been asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
