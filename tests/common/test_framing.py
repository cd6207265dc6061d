"""Framing: what the sender yields is what the receiver takes, and nothing else."""

import pytest
import torch

from common.errors import PayloadError
from common.framing import frames, take
from common.receiver import MemoryReceiver
from common.tensorfile import parse
from common.tensorstream import CHUNK_BYTES, TensorStream
from protos import lotteryfl_pb2 as pb


def parts_of(tensors: dict[str, torch.Tensor]) -> list[pb.BlobPart]:
    payload = TensorStream(tensors)
    return list(frames(pb.BlobPart(header=pb.PayloadHeader(size=payload.size)), payload))


def test_a_payload_arrives_as_it_was() -> None:
    tensors = {"w": torch.randn(700_000), "b": torch.arange(3)}
    first, *rest = parts_of(tensors)
    assert first.header.size > 2 * CHUNK_BYTES
    receiver = MemoryReceiver(first.header.size, first.header.size, "model")
    taken = [take(receiver, part) for part in rest]
    assert taken[:-1] == [None] * (len(rest) - 1)
    assert taken[-1] is not None
    for name, tensor in parse(taken[-1], "model").items():
        assert torch.equal(tensor, tensors[name])


def test_no_message_is_larger_than_a_chunk_and_its_tag() -> None:
    assert max(part.ByteSize() for part in parts_of({"w": torch.zeros(3 * CHUNK_BYTES // 4)})) < CHUNK_BYTES + 16


@pytest.mark.parametrize("part", [pb.BlobPart(), pb.BlobPart(header=pb.PayloadHeader(size=3))])
def test_a_message_out_of_place_is_refused(part: pb.BlobPart) -> None:
    with pytest.raises(PayloadError, match="expected a chunk or the trailer"):
        take(MemoryReceiver(8, 8, "model"), part)
