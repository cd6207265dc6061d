"""Whether a host has the program in a version that fits."""

import re
from importlib.metadata import version

from lotteryfl.common.errors import LotteryFLError

_SAID = re.compile(r"^lotteryfl, version (\S{1,100})(?: \(protocol (\d{1,9})\))?\s*$", re.MULTILINE)


def check_version(host: str, said: str, *, any_version: bool) -> None:
    """Check what `lotteryfl --version` says on a host.

    Args:
        host: whose it is.
        said: what was printed there, perhaps with more around it.
        any_version: another version will do, if it speaks the same protocol.

    Raises:
        LotteryFLError: it is no version, or one that does not fit.
    """
    from lotteryfl.common.security.channel import PROTOCOL_VERSION  # with gRPC, which takes its time

    found = _SAID.search(said)
    if found is None:
        raise LotteryFLError(f"{host}: `lotteryfl --version` says {said.strip()[:200]!r}: expected a version")
    theirs, protocol, ours = found[1], found[2] or "none that it names", version("lotteryfl")
    if protocol != str(PROTOCOL_VERSION):
        raise LotteryFLError(
            f"{host}: has lotteryfl {theirs} (protocol {protocol}), this machine {ours} (protocol {PROTOCOL_VERSION}): "
            "expected the same protocol"
        )
    if theirs != ours and not any_version:
        raise LotteryFLError(
            f"{host}: has lotteryfl {theirs}, this machine {ours}: expected the same version, by which bits are the "
            "same, or --with ssh.any_version=true"
        )
