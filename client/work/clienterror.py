"""What others are told of an error in a client's work."""

from lotteryfl.common.errors import ClientError, PayloadError
from lotteryfl.common.experiment.settings import PrivacySettings


def told(error: ClientError | PayloadError, privacy: PrivacySettings, *, holds_private: bool, shares: bool) -> str:
    """Return what others may be told of an error in a client's work.

    Args:
        error: what was raised.
        privacy: what is promised; where something is, only type and place are told.
        holds_private: so they are where the clients' data is one worker's own.
        shares: the operator has decided that all is told.
    """
    if shares or not (privacy.is_promised or holds_private):
        return str(error)
    return error.told if isinstance(error, ClientError) else type(error).__name__
