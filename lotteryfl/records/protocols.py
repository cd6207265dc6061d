"""Which protocol an experiment is one of."""

from lotteryfl.common.experiment.experiment import Experiment


def protocol_name(experiment: Experiment) -> str:
    """Return the name of the protocol that an experiment is one of; '': of none that this program knows."""
    try:
        from lotteryfl.protocols import protocol_of  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return ""
    found = protocol_of(experiment)
    return found.name if found else ""
