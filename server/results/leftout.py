"""Who was left out of a run's rounds, in lines for people. Imports no torch: `lotteryfl status` reads it."""

from lotteryfl.protos import lotteryfl_pb2 as pb


def describe_left_out(missing: pb.LeftOut) -> str:
    """Return in one line how many rounds a client sat out, and why."""
    rounds = f"round {missing.last}" if missing.rounds == 1 else f"{missing.rounds} rounds, the last {missing.last}"
    return f"left out: client {missing.client} of {rounds}: {missing.reason}"
