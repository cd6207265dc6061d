"""What was taken at the peak, of this very process."""

import torch

from lotteryfl.common.memory.peak import Peak, PeakMeter

BLOCK = 256 << 20


def test_what_was_taken_and_given_back_is_in_the_peak_until_it_is_begun_anew() -> None:
    meter = PeakMeter(torch.device("cpu"))
    meter.begin()
    before = meter.peak()
    torch.ones(BLOCK // 4)
    after = meter.peak()
    assert after.host >= before.host + BLOCK // 2
    assert (after.device, after.held) == (0, 0)
    meter.begin()
    assert meter.peak().host < after.host - BLOCK // 2


def test_a_device_is_named_where_it_has_memory_of_its_own() -> None:
    assert str(Peak(1000)) == "1.0 kB of the machine"
    assert str(Peak(1000, 2000, 3000)) == "2.0 kB of the device (3.0 kB held), 1.0 kB of the machine"
