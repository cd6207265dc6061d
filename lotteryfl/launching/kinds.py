"""The kinds of places, each imported when it is asked for."""

from collections.abc import Callable
from importlib import import_module

from lotteryfl.launching.launcher import Launcher, Request

KINDS = {"ssh": "SSHLauncher", "slurm": "SlurmLauncher", "ray": "RayLauncher", "kubernetes": "KubernetesLauncher"}
"""The class of each, by the command's word for it, which is that of its room, too."""


def make_launcher(kind: str, request: Request, note: Callable[[str], None]) -> Launcher:
    """Return what launches runs at a kind of place.

    Args:
        kind: one of `KINDS`.
        request: what is to be launched.
        note: is told what is out of the ordinary.
    """
    launcher: Launcher = getattr(import_module(f"lotteryfl.launching.{kind}.launcher"), KINDS[kind])(request, note)
    return launcher
