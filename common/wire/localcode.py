"""How a plan names code of the worker's own, and with what of a plan there can be none."""

import hashlib

from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.protos import lotteryfl_pb2 as pb


def version_digest(version: SourceVersion) -> str:
    """Return the digest by which plans name a version; '' of none."""
    return hashlib.sha256(version.to_json().encode()).hexdigest() if version else ""


def misfit(plan: pb.Plan) -> str:
    """Say what a plan with code of the worker's own has that leaves it no place; '': nothing."""
    if plan.measure_saliency:
        return "measures saliencies in place of training"
    halves = plan.HasField("readjust") and not plan.readjust.after_training
    return "exchanges weights half-way through its training" if halves else ""
