"""Which protocol a record's experiment is one of: by what it is, whatever the record says."""

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.protocols import Protocol, names, protocol_of
from lotteryfl.records.record import Record


def protocol_name(experiment: Experiment) -> str:
    """Return the name of the protocol that an experiment is one of; '': of none that this program knows."""
    found: Protocol | None = protocol_of(experiment)
    return found.name if found else ""


def says_wrongly(record: Record) -> str:
    """Return the protocol of which a record wrongly says that it is one; '': it says none, or is, or nobody here knows.

    Protocols are not changed, but new ones come: what was of none may be of one by now.
    """
    is_known = record.protocol in names()
    return record.protocol if is_known and record.protocol != protocol_name(record.experiment) else ""
