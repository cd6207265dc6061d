"""Who is told what an error in a client's work says."""

from typing import Any

import pytest

from lotteryfl.client.work.clienterror import told
from lotteryfl.common.errors import ClientError, PayloadError
from lotteryfl.common.experiment.settings import PrivacySettings

OPEN: dict[str, Any] = {}
BOUNDED: dict[str, Any] = {"clip_norm": 1.0}
NOISY: dict[str, Any] = {"clip_norm": 1.0, "noise": "client", "noise_multiplier": 1.0}


@pytest.mark.parametrize(
    ("privacy", "holds_private", "shares", "all_"),
    [
        (OPEN, False, False, True),
        (BOUNDED, False, False, True),
        (OPEN, True, False, False),
        (NOISY, False, False, False),
        (NOISY, True, True, True),
    ],
)
def test_type_and_place_alone_where_something_is_kept_back(
    privacy: dict[str, Any], holds_private: bool, shares: bool, all_: bool
) -> None:
    settings = PrivacySettings(**privacy)
    for error, alone in (
        (ClientError("client 1: OSError at a.py:3: ill", "client 1: OSError at a.py:3"), "client 1: OSError at a.py:3"),
        (PayloadError("kept/a: value 1e39 at flat index 2"), "PayloadError"),
    ):
        found = told(error, settings, holds_private=holds_private, shares=shares)
        assert found == (str(error) if all_ else alone)
