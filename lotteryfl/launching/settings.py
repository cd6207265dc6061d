"""Where and how a run is launched: a profile's keys, then those of the experiment's `[launch]`, then `--with`.

A kind's own settings are a field of its name here; their model lies in the kind's own room.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import LAUNCH
from lotteryfl.common.experiment.tables import TOMLTable, apply_override, explained, read_table
from lotteryfl.common.section import Count, Section
from lotteryfl.launching.kubernetes.settings import KubernetesSettings
from lotteryfl.launching.ray.settings import RaySettings
from lotteryfl.launching.slurm.settings import SlurmSettings
from lotteryfl.launching.ssh.settings import SSHSettings
from lotteryfl.launching.values import Environment, Program, merged

_DEFAULT = "default"


class LaunchSettings(Section):
    """What all kinds of places share, and one section for each kind."""

    program: Program = "lotteryfl"
    """How the program is called there: words as a shell takes them, of which the first may begin with ~/."""
    setup: tuple[str, ...] = ()
    """Lines of sh before it is called there: modules, environments."""
    devices: str = "all"
    """As `work --devices` takes them."""
    workers_per_device: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """As `work --per-device` takes it."""
    data_dir: str = ""
    """Folder of the tasks' data there; '': the usual places."""
    arguments: tuple[str, ...] = ()
    """More options of `work`, as --max-memory=8; a --task or --local among them is in the place of the run's own."""
    environment: Environment = Field(default_factory=dict)
    """Variables that are set there, by name; no secrets."""
    patience: Count = 60
    """Seconds for which workers go on trying while they cannot reach the coordinator, as `work --patience` has it."""
    ray: RaySettings = RaySettings()
    ssh: SSHSettings = SSHSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    slurm: SlurmSettings = SlurmSettings()


def launch_settings(source: Path, profile: str, given: Iterable[str]) -> LaunchSettings:
    """Read the settings of a launch: later ones stand in the place of earlier ones, key by key.

    Args:
        source: an experiment file, whose `[launch]` counts; a run directory has none.
        profile: the name of a file NAME.toml in the user's folder of profiles, or a path; '': default.toml there, if
            there is one.
        given: `KEY=VALUE` of --with, as "ssh.hosts=gpu1,gpu2".

    Raises:
        ExperimentError: a file cannot be read, or a key or value is wrong.
    """
    path = _profile(profile)
    table = read_table(path) if path else {}
    if path:
        _checked(table, str(path))
    own = read_table(source).get(LAUNCH, {}) if source.is_file() else {}
    if not isinstance(own, dict):
        raise ExperimentError(f"{source}: {LAUNCH} = {own!r}: expected a section, [launch]")
    _checked(own, f"{source}, [{LAUNCH}]")
    table = merged(table, own)
    for override in given:
        apply_override(table, override, "--with", "ssh.hosts=gpu1,gpu2")
    return _checked(table, "--with")


def _checked(table: TOMLTable, source: str) -> LaunchSettings:
    with explained(LaunchSettings, source):
        return LaunchSettings.model_validate(table)


def _profile(profile: str) -> Path | None:
    """Return the file of a profile; None: none was named, and there is no default one."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "lotteryfl"
    if not profile:
        default = folder / f"{_DEFAULT}.toml"
        return default if default.is_file() else None
    if profile.endswith(".toml") or "/" in profile:
        return Path(profile).expanduser()
    return folder / f"{profile}.toml"
