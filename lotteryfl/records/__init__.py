"""Records: what a finished run came to, in one small file that can be given away, checked and put on a board."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.records.files import read_record, read_records, write_record
    from lotteryfl.records.making import record_of
    from lotteryfl.records.record import Record

__all__ = ["Record", "read_record", "read_records", "record_of", "write_record"]

__getattr__, __dir__ = front(
    __name__,
    {
        "Record": "record",
        "read_record": "files",
        "read_records": "files",
        "record_of": "making",
        "write_record": "files",
    },
)
