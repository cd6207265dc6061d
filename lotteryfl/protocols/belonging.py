"""Which protocol an experiment is one of: by what it is, whatever it says."""

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.protocols.described import Protocol
from lotteryfl.protocols.files import names, protocol


def belongs(experiment: Experiment, to: Protocol) -> bool:
    """Tell whether an experiment is the protocol's but for keys that this leaves open."""
    return to.fixed(experiment) == to.fixed(to.experiment)


def protocol_of(experiment: Experiment) -> Protocol | None:
    """Return the protocol that an experiment is one of; None: it is of none.

    With fewer rounds than the protocol has it is of none either, unless the protocol leaves `rounds` open.
    """
    return next((found for found in map(protocol, names()) if belongs(experiment, found)), None)
