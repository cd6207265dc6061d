"""What `[launch.kubernetes]` says: which cluster, which image, how many pods, and any value of the chart."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from lotteryfl.common.section import Count, Section

_IMAGE = re.compile(
    r"(?P<repository>[a-z0-9][a-z0-9._-]*(?::\d+(?=/))?(?:/[a-z0-9][a-z0-9._-]*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_RELEASE = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
"""A name of DNS, as Services have them, with room for what is put after it."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_CONTEXT = re.compile(r"[^-].*")


def _image(image: str) -> str:
    if image and not _IMAGE.fullmatch(image):
        raise ValueError(f"kubernetes.image = {image!r}: expected REPOSITORY, REPOSITORY:TAG or REPOSITORY@sha256:…")
    return image


def _name(key: str, form: re.Pattern[str] = _NAME) -> AfterValidator:
    def checked(name: str) -> str:
        if name and not form.fullmatch(name):
            raise ValueError(f"kubernetes.{key} = {name!r}: is no name that Kubernetes takes")
        return name

    return AfterValidator(checked)


class KubernetesSettings(Section):
    """Which cluster, and what runs there."""

    image: Annotated[str, AfterValidator(_image)] = ""
    """The image that has lotteryfl, as the cluster's nodes pull it."""
    pull_secrets: tuple[Annotated[str, _name("pull_secrets")], ...] = ()
    """Secrets by which they may."""
    context: Annotated[str, _name("context", _CONTEXT)] = ""
    """Of kubectl's configuration; '': the current one."""
    namespace: Annotated[str, _name("namespace")] = ""
    """'': that of the context."""
    name: Annotated[str, _name("name", _RELEASE)] = ""
    """Of the release; '': one that follows from the run directory."""
    workers: Count = 2
    """Pods of workers."""
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    """Cards of a pod; it has a worker on each."""
    claim: Annotated[str, _name("claim")] = ""
    """A PersistentVolumeClaim for run directories that is there; '': one is made for this run."""
    storage: str = "10Gi"
    """How large that is."""
    delete_volume: bool = False
    """Whether the one that was made goes once the run was brought here, and with --down; never after a failure."""
    data_claim: Annotated[str, _name("data_claim")] = ""
    """A PersistentVolumeClaim with the workers' data, mounted at `data_dir`; '': there is none."""
    queue: Annotated[str, _name("queue")] = ""
    """Of Kueue, for the workers."""
    fetch_seconds: Count = 600
    """How long the pod may take to start by which the run directory is brought here."""
    values: dict[str, Any] = Field(default_factory=dict)
    """Any values of the chart, by its names; they go before what is said above."""


def parts_of(image: str) -> dict[str, str]:
    """Return an image's repository, tag and digest, as far as it has them."""
    found = _IMAGE.fullmatch(image)
    return {part: text for part, text in found.groupdict().items() if text} if found else {}
