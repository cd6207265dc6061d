"""Whether a worker has the local algorithm of the run that it takes part in, and what plans may say of it."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from lotteryfl.client.limits import RefusedError
from lotteryfl.client.local.files import LocalCode, load_local
from lotteryfl.common.errors import LocalVersionError
from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.localcode import misfit
from lotteryfl.protos import lotteryfl_pb2 as pb

_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def local_of(reply: pb.RegisterReply, sources: Sequence[str], *, any_version: bool) -> LocalCode | None:
    """Return the local algorithm of a run; None: it has none.

    Args:
        reply: what the registration was answered with.
        sources: the files and modules that the operator has named.
        any_version: another version than the coordinator's will do.

    Raises:
        LocalVersionError: it is not here, or in another version.
        LocalAlgorithmError: a file of the operator's cannot be used.
        RefusedError: the coordinator's version is none.
    """
    found = load_local(sources) if sources or reply.HasField("local") else {}
    if not reply.HasField("local"):
        return None
    try:
        version = SourceVersion.from_json(reply.local.version_json)
    except ValueError:
        raise _refused("version_json", reply.local.version_json, "digests of files, by their names") from None
    if (code := found.get(reply.local.name)) is None:
        raise LocalVersionError(
            f"local algorithm {quoted(reply.local.name)}, which the run's plans name, is not here: name its file with "
            "--local"
        )
    if (difference := version.difference(code.version)) and not any_version:
        raise LocalVersionError(
            f"local algorithm {code.name}: this worker's version is not the coordinator's: {difference}; "
            "--any-local-version takes part all the same"
        )
    return code


def check_local(assignment: pb.Assignment, code: LocalCode | None, *, any_version: bool) -> None:
    """Check what an assignment's plan says of a local algorithm, where it names one.

    Args:
        assignment: that is to be done.
        code: the run's; None: it has none.
        any_version: another version than the coordinator's will do.

    Raises:
        RefusedError: it is another one, or makes no sense.
    """
    plan = assignment.plan
    if not plan.HasField("local"):
        return
    local, name = plan.local, code.name if code else None
    if code is None or local.name != name:
        raise _refused("name", local.name, f"{quoted(name)}, as it said at registration")
    if reason := misfit(plan) or ("is one of a stack's" if assignment.HasField("stack") else ""):
        raise _refused("name", local.name, f"none in a plan that {reason}")
    if local.digest not in ("", code.digest) and not any_version:
        raise _refused("digest", local.digest, f"that of the version here, {code.digest}")
    try:
        if local.options_json:
            _OBJECT.validate_json(local.options_json)
    except ValueError:
        raise _refused("options_json", local.options_json, "an object, as JSON has it") from None


def _refused(name: str, value: object, expected: str) -> RefusedError:
    return RefusedError(f"the coordinator's local.{name} = {quoted(value)}: expected {expected}")
