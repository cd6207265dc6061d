"""Protocols: experiments of the literature, frozen, that results are comparable under (docs/protocols.md)."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.protocols.belonging import protocol_of
    from lotteryfl.protocols.described import Expected, Protocol, Published
    from lotteryfl.protocols.files import names, protocol

__all__ = ["Expected", "Protocol", "Published", "names", "protocol", "protocol_of"]

__getattr__, __dir__ = front(
    __name__,
    {
        "Expected": "described",
        "Protocol": "described",
        "Published": "described",
        "names": "files",
        "protocol": "files",
        "protocol_of": "belonging",
    },
)
