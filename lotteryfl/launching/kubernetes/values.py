"""What the chart is told of a launch."""

import hashlib
import os
import re
import shlex
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import LAUNCH, load
from lotteryfl.common.experiment.tables import read_table
from lotteryfl.launching.kubernetes.ownfiles import MOST_BYTES, OwnFiles
from lotteryfl.launching.kubernetes.settings import parts_of
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.values import merged

CHART = Path(__file__).parent / "chart"
"""The chart, as it is in deploy/helm."""

WORKERS = "worker"
"""The name in the certificate that all workers share."""

Values = dict[str, Any]


def release_of(request: Request) -> str:
    """Return the release's name: the run directory's, with what tells it from others of that name."""
    if request.settings.kubernetes.name:
        return request.settings.kubernetes.name
    whole = f"{socket.gethostname()}:{os.getuid()}:{request.run_dir}"
    digest = hashlib.sha256(whole.encode()).hexdigest()[:6]
    word = re.sub(r"[^a-z0-9]+", "-", request.run_dir.name.lower())[:32].strip("-")
    return f"run-{word}-{digest}" if word else f"run-{digest}"


def chart_name(release: str) -> str:
    """Return what the chart's objects are called before their roles: its helper `lotteryfl.name`."""
    return release if "lotteryfl" in release else f"{release}-lotteryfl"


def values_of(request: Request) -> Values:
    """Return the chart's values for a new launch.

    Raises:
        LotteryFLError: the experiment or a file of the user's own cannot be used.
    """
    settings, own_settings = request.settings, request.settings.kubernetes
    files = OwnFiles(request.source.parent)
    own = files.taken(request.own)
    overrides = list(request.overrides)
    task = load(request.source, request.overrides).task.name
    if (named := files.named(task)) != task:
        overrides.append(f"task.name={named}")
    experiment = _experiment(request.source)
    size = sum(len(text.encode()) for text in (experiment, *files.texts.values()))
    if size > MOST_BYTES:
        raise LotteryFLError(f"{request.source}: is {size} bytes with your own code: expected at most {MOST_BYTES}")
    environment = [{"name": name, "value": value} for name, value in settings.environment.items()]
    made = {
        "image": {**parts_of(own_settings.image), "pullSecrets": list(own_settings.pull_secrets), **_command(request)},
        "experiment": experiment,
        "files": files.texts,
        "coordinator": {"overrides": overrides, "arguments": own.options, "env": environment},
        "worker": {
            "replicas": own_settings.workers,
            "gpus": {"count": own_settings.gpus},
            "queue": own_settings.queue,
            "env": environment,
            **_working(replace(request, own=own)),
        },
        "runs": {"existingClaim": own_settings.claim, "size": own_settings.storage},
        "data": _data(request),
    }
    return merged(made, own_settings.values)


def _experiment(source: Path) -> str:
    """Return the experiment file's text; where and how it is launched is not the coordinator's business."""
    table = read_table(source)
    if LAUNCH not in table:
        return source.read_bytes().decode("utf-8-sig")
    return tomli_w.dumps({key: value for key, value in table.items() if key != LAUNCH})


def _working(request: Request) -> Values:
    """Return the arguments of `work` that the chart does not give by itself."""
    settings = request.settings
    by_chart: Values = {"data_dir": "", "patience": 0}
    if (settings.devices, settings.workers_per_device) == ("all", 1):  # the chart says so where pods have cards
        by_chart |= {"devices": "", "workers_per_device": 0}
    plain = replace(request, settings=settings.model_copy(update=by_chart))
    # A coordinator's pod may wait for its image: what workers wait by default is more here.
    patience = {"patience": settings.patience} if "patience" in settings.model_fields_set else {}
    return {"arguments": plain.work_arguments(), **patience}


def _data(request: Request) -> Values:
    claim = request.settings.kubernetes.data_claim
    volume = {"volume": {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}} if claim else {}
    return {"folder": request.settings.data_dir, **volume}


def _command(request: Request) -> Values:
    """Return how the program is called in the image, where that is not its entrypoint."""
    words = shlex.split(request.settings.program)
    return {} if words == ["lotteryfl"] else {"command": words}
