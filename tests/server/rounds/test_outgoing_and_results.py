"""What an assignment carries, and every way in which a result does not count."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lotteryfl.common import packedmasks
from lotteryfl.common.experiment.settings import MAX_EXAMPLES, WireDtype
from lotteryfl.common.names import Digest, WorkerId
from lotteryfl.common.tensors.file import open_file, parse
from lotteryfl.common.tensors.stream import CHUNK_BYTES
from lotteryfl.common.wire.payload import mask_digest
from lotteryfl.common.wire.quantization import DTYPES
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rpc.filestream import FileStream
from lotteryfl.server.store.rundb.rows import AssignmentRow
from tests.support.bench import Answer, Bench, tiny_experiment

Drive = Callable[..., Bench]
REFUSED = pb.SubmitReply.REFUSED
W = "0.weight"


def test_a_file_is_streamed_as_often_as_asked(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(CHUNK_BYTES + 5)
    (tmp_path / "file").write_bytes(content)
    stream = FileStream(tmp_path / "file")
    for _ in range(2):
        assert b"".join(stream) == content
        assert stream.trailer == (len(content), zlib.crc32(content))


def test_an_empty_file_is_streamed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stream = FileStream(tmp_path / "file")
    assert list(stream) == []
    assert stream.trailer == (0, 0)


def payload(bench: Bench, client: int) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray], str]:
    """The next assignment of a client: its entries, its masks, and the file that they come from."""
    work = bench.take(bench.register(f"of {client}", clients={client}))
    entries = parse(bytearray().join(assignment_payload(bench.run, work)), "payload")
    return entries, dict(bench.run.load_masks(Digest(work.assignment.mask_digest))), work.source


def one_round(drive: Drive, **changes: object) -> Bench:
    bench = drive(tiny_experiment(clients_per_round=4, **changes))
    bench.do_all(bench.register())
    bench.commit()
    return bench


@pytest.mark.parametrize("wire_dtype", ["float32", "bfloat16"])
def test_a_client_starts_from_the_shared_model_under_its_own_mask(drive: Drive, wire_dtype: WireDtype) -> None:
    bench = drive(tiny_experiment(rounds=1, wire_dtype=wire_dtype))
    bench.do_all(bench.register())
    bench.commit()
    shared = open_file(bench.path / "models/round-0001.safetensors")
    took_part = [row.client for row in bench.run.database.results(1)]
    sent = [payload(bench, client) for client in range(4)]
    for entries, masks, source in sent:
        assert source == "models/round-0001.safetensors"
        whole = bench.run.wire.unpack(entries, masks)
        for name, tensor in whole.items():
            mask = packedmasks.unpack(masks[name], tensor.shape) if name in masks else torch.ones_like(tensor)
            values = shared[name].to(DTYPES[wire_dtype]).float() if name.endswith("weight") else shared[name]
            assert torch.equal(tensor, torch.where(mask.bool(), values, 0.0))
    assert {tensor.dtype for tensor in shared.values()} == {torch.float32}
    assert [client for client, (_, masks, _) in enumerate(sent) if masks] == took_part


@pytest.mark.parametrize("wire_dtype", ["float32", "int8"])
def test_a_client_that_shares_nothing_starts_from_its_own_last_result(drive: Drive, wire_dtype: WireDtype) -> None:
    bench = one_round(drive, strategy={"name": "standalone"}, wire_dtype=wire_dtype)
    for client in (0, 3):
        entries, _, source = payload(bench, client)
        assert source == bench.run.database.clients()[client].ticket
        own = open_file(bench.path / source)
        assert entries.keys() == own.keys()
        assert all(torch.equal(entries[name], own[name]) for name in own)
        assert own[f"dense/{W}"].dtype == DTYPES[wire_dtype]
        assert not torch.equal(own[f"dense/{W}"], open_file(bench.path / "models/round-0000.safetensors")[W])


# ---- refusals


def mask_before(bench: Bench, worker: WorkerId, answer: Answer) -> Digest:
    """Digest of the mask that an answer's client started from."""
    assigned = bench.coordinator.wanted(worker, answer.result.assignment_id)
    assert isinstance(assigned, AssignmentRow)
    return assigned.mask


def second_round(drive: Drive, **changes: object) -> tuple[Bench, WorkerId, Answer]:
    """A client's answer in its second round: it had a mask, and has lost more of it."""
    bench = one_round(drive, **changes)
    worker = bench.register()
    return bench, worker, bench.do(bench.take(worker))


def nan(answer: Answer) -> None:
    answer.entries["dense/0.bias"][7] = torch.nan


def inf(answer: Answer) -> None:
    answer.entries[f"kept/{W}"][0] = -torch.inf


def one_value_short(answer: Answer) -> None:
    answer.entries[f"kept/{W}"] = answer.entries[f"kept/{W}"][:-1]


def dense_instead_of_kept(answer: Answer) -> None:
    del answer.entries[f"kept/{W}"]
    answer.entries[f"dense/{W}"] = torch.zeros(12, 6)


def other_dtype(answer: Answer) -> None:
    answer.entries["dense/0.bias"] = answer.entries["dense/0.bias"].double()


def other_shape(answer: Answer) -> None:
    answer.entries["dense/0.bias"] = answer.entries["dense/0.bias"].reshape(3, 4)


def one_missing(answer: Answer) -> None:
    del answer.entries["dense/0.bias"]


def one_too_many(answer: Answer) -> None:
    answer.entries["dense/9.weight"] = torch.zeros(1)


def whole_mask_instead_of_its_bits_at_kept_positions(answer: Answer) -> None:
    answer.entries[f"mask/{W}"] = torch.full((9,), 255, dtype=torch.uint8)  # "everything is kept": a mask that grows


def bits_beyond_the_mask(answer: Answer) -> None:
    answer.entries[f"mask/{W}"][-1] |= 0x80


def mask_of_a_bias(answer: Answer) -> None:
    answer.entries["mask/0.bias"] = torch.zeros(2, dtype=torch.uint8)


def more_kept_than_the_digest_says(answer: Answer) -> None:
    del answer.entries[f"mask/{W}"]


def wrong_digest(answer: Answer) -> None:
    answer.result.mask_digest = "0" * 64


def no_digest(answer: Answer) -> None:
    answer.result.mask_digest = ""


def examples(count: int) -> Callable[[Answer], None]:
    def spoil(answer: Answer) -> None:
        answer.result.examples = count

    return spoil


def number(name: str, value: float) -> Callable[[Answer], None]:
    def spoil(answer: Answer) -> None:
        *path, field = name.split(".")
        message = answer.result.metrics
        for part in path:
            message = getattr(message, part)
        setattr(message, field, value)

    return spoil


def without(phase: str) -> Callable[[Answer], None]:
    return lambda answer: answer.result.metrics.ClearField(phase)  # type: ignore[arg-type]


REFUSALS = [
    (nan, "dense/0.bias: value nan at flat index 7, expected finite"),
    (inf, f"kept/{W}: value -inf at flat index 0, expected finite"),
    (one_value_short, f"kept/{W}: torch.float32 of shape ["),
    (dense_instead_of_kept, f"'dense/{W}': unexpected"),
    (other_dtype, "dense/0.bias: torch.float64 of shape [12], expected torch.float32 of shape [12]"),
    (other_shape, "dense/0.bias: torch.float32 of shape [3, 4], expected torch.float32 of shape [12]"),
    (one_missing, "dense/0.bias: missing"),
    (one_too_many, "'dense/9.weight': unexpected"),
    (whole_mask_instead_of_its_bits_at_kept_positions, f"mask/{W}: uint8 of shape [9]"),
    (bits_beyond_the_mask, f"mask/{W}: last byte"),
    (mask_of_a_bias, "'mask/0.bias': unexpected: not a prunable tensor"),
    (more_kept_than_the_digest_says, f"kept/{W}: torch.float32 of shape ["),
    (wrong_digest, f"mask_digest = '{'0' * 64}': the mask sent has "),
    (no_digest, "mask_digest = '': the mask sent has "),
    (examples(0), f"examples = 0: expected 1 to {MAX_EXAMPLES}"),
    (examples(2**64 - 1), f"examples = {2**64 - 1}: expected 1 to {MAX_EXAMPLES}"),
    (number("train_loss", float("nan")), "metrics.train_loss = nan: expected a finite number"),
    (number("seconds", float("inf")), "metrics.seconds = inf: expected a finite number"),
    (number("downloaded.accuracy", float("nan")), "metrics.downloaded.accuracy = nan"),
    (
        number("personalised.accuracy", 1.01),
        "metrics.personalised.accuracy = 1.01: expected a finite number from 0 to 1",
    ),
    (number("validation.macro_recall", -0.1), "metrics.validation.macro_recall = -0.1"),
    (number("validation.loss", float("inf")), "metrics.validation.loss = inf"),
    (number("personalised.examples", 2**64 - 1), f"metrics.personalised.examples = {2**64 - 1}"),
    (without("downloaded"), "metrics.downloaded: missing"),
    (without("personalised"), "metrics.personalised: missing"),
]


@pytest.mark.parametrize(("spoil", "reason"), REFUSALS)
def test_a_spoilt_result_is_refused_by_name_and_leaves_nothing(
    drive: Drive, spoil: Callable[[Answer], None], reason: str
) -> None:
    bench, worker, answer = second_round(drive)
    files = bench.files("results"), bench.files("masks")
    spoil(answer)
    reply = bench.submit(worker, answer)
    assert reply.verdict == REFUSED
    assert reply.reason.startswith(reason)
    assert bench.run.database.results(2) == []
    assert (bench.files("results"), bench.files("masks")) == files


def float32_values(answer: Answer) -> None:
    answer.entries[f"kept/{W}"] = answer.entries[f"kept/{W}"].float()


def no_scales(answer: Answer) -> None:
    del answer.entries[f"scale/{W}"]


def infinite_scale(answer: Answer) -> None:
    answer.entries[f"scale/{W}"][0] = torch.inf


def level_128(answer: Answer) -> None:
    answer.entries[f"kept/{W}"][3] = -128


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (float32_values, f"kept/{W}: torch.float32 of shape ["),
        (no_scales, f"scale/{W}: missing"),
        (infinite_scale, f"scale/{W}: value inf at flat index 0, expected finite"),
        (level_128, f"kept/{W}: value -128, expected -127 to 127"),
    ],
)
def test_a_spoilt_int8_result_is_refused(drive: Drive, spoil: Callable[[Answer], None], reason: str) -> None:
    bench, worker, answer = second_round(drive, wire_dtype="int8")
    spoil(answer)
    reply = bench.submit(worker, answer)
    assert reply.verdict == REFUSED
    assert reply.reason.startswith(reason)


def test_unspoilt_it_is_accepted_with_the_density_counted_from_its_mask(drive: Drive) -> None:
    bench, worker, answer = second_round(drive)
    old = bench.run.load_masks(mask_before(bench, worker, answer))
    assert bench.submit(worker, answer).verdict == pb.SubmitReply.ACCEPTED
    (row,) = bench.run.database.results(2)
    new = bench.run.load_masks(row.mask)
    assert mask_digest(dict(new)) == answer.result.mask_digest
    kept = sum(packedmasks.count(mask) for mask in new.values())
    assert kept < sum(packedmasks.count(mask) for mask in old.values())
    (density,) = bench.run.database._connection.execute("SELECT density FROM results WHERE round = 2").fetchone()
    assert density == kept / 108


def test_no_bits_can_make_a_mask_grow(drive: Drive) -> None:
    bench, worker, answer = second_round(drive)
    old = bench.run.load_masks(mask_before(bench, worker, answer))
    for name, before in old.items():
        kept = packedmasks.count(before)
        answer.entries[f"mask/{name}"] = torch.from_numpy(packedmasks.pack(torch.ones(kept)))  # keep all there is
        answer.entries[f"kept/{name}"] = torch.ones(kept)
    answer.result.mask_digest = mask_digest(dict(old))
    answer.result.metrics.density = 76 / 108
    assert bench.submit(worker, answer).verdict == pb.SubmitReply.ACCEPTED
    (row,) = bench.run.database.results(2)
    new = bench.run.load_masks(row.mask)
    assert all(packedmasks.is_subset(new[name], old[name]) for name in old)
