"""By which rule a client's mask may change: a strategy declares it, its plans keep to it, results are held to them."""

from typing import Literal

from lotteryfl.protos import lotteryfl_pb2 as pb

MaskRule = Literal["shrinks", "exchanges", "free"]
"""`shrinks`: the mask after the work keeps nothing that was not kept before. `exchanges`: as many weights come as go, a
share of the kept ones at most. `free`: any mask, as one that is made of scores."""

RULES: tuple[MaskRule, ...] = ("shrinks", "exchanges", "free")
"""Each allows what those before it allow."""


def rule_of(plan: pb.Plan) -> MaskRule:
    """Return the rule by which a plan lets the mask change."""
    if plan.HasField("free_mask"):
        return "free"
    return "exchanges" if plan.HasField("readjust") else "shrinks"


def comes_whole(plan: pb.Plan) -> bool:
    """Say whether a mask comes back whole, where it need be no subset of the one before."""
    return rule_of(plan) != "shrinks"
