"""Content by digest: a worker takes only what has the digest that it asked for."""

import pytest

from lotteryfl.client.connection import Connection
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.names import WorkerId
from lotteryfl.common.tensors.file import open_file, save
from tests.support.runs import Coordinate, Write


def test_other_content_under_the_digest_of_the_initial_model_is_refused(coordinate: Coordinate, write: Write) -> None:
    server = coordinate(write())
    path = server.run.model_path(0)
    worker, digest, size = WorkerId("worker"), server.run.initial_digest, path.stat().st_size
    with Connection(server.address, patience=60) as connection:
        assert bytes(connection.fetch_blob(digest, size, worker)) == path.read_bytes()
        save(path, {name: tensor + 1 for name, tensor in open_file(path).items()})
        with pytest.raises(PayloadError, match=f"content {digest[:12]}: what the coordinator sent has the digest"):
            connection.fetch_blob(digest, size, worker)
