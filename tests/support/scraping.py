"""What a process answers at --metrics, as Prometheus reads it."""

import http.client
from contextlib import closing
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import DEADLINE


def get(url: str) -> tuple[int, str]:
    """Return what is answered at http://HOST:PORT/PATH, and its status."""
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.rpartition(":")
    with closing(http.client.HTTPConnection(host.strip("[]"), int(port), timeout=DEADLINE)) as connection:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


class Scraped(NamedTuple):
    """One answer."""

    text: str
    samples: dict[str, float]
    """By NAME, or NAME/LABEL."""

    @property
    def names(self) -> set[str]:
        """Of the project's own samples, without labels."""
        names = {name.partition("/")[0] for name in self.samples}
        return {name for name in names if name.startswith("lotteryfl_")}


def scrape(url: str) -> Scraped:
    """Ask a process."""
    status, text = get(url)
    assert status == http.client.OK, text
    samples = {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return Scraped(text, samples)
