"""What is kept of a launch: RUN_DIR.launch, beside the run directory, its owner's alone.

launch.json    what was started, so that another process can follow it and take it away; there as long as that is up
certs/         an authority and its certificates, of this launch alone; gone with it
logs/          of whatever was started; these stay
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.disk.privatefiles import PRIVATE_FOLDER
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.section import Section
from lotteryfl.common.security.identity import Identity, Role
from lotteryfl.common.security.tls import TLSFiles
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.launching.written import read_section

_MOST_BYTES = 4 << 20
_CERTIFICATE_DAYS = 30
"""For how long a launch's certificates are valid; one that takes longer makes them again when it goes on."""

_Text = Annotated[str, Field(max_length=4096)]


class LaunchRecord(Section):
    """What launch.json holds."""

    kind: _Text
    """Of the place, by the command's word for it."""
    source: _Text
    """The experiment file, or the run directory, as an absolute path."""
    overrides: tuple[_Text, ...] = ()
    tasks: tuple[_Text, ...] = ()
    strategies: tuple[_Text, ...] = ()
    local: tuple[_Text, ...] = ()
    any_task_version: bool = False
    any_local_version: bool = False
    settings: LaunchSettings = LaunchSettings()
    started: dict[_Text, tuple[_Text, ...]] = Field(default_factory=dict)
    """Names and ids of what was started, or was about to be, by what they are of; each kind has its own."""


class LaunchFolder:
    """RUN_DIR.launch; reads nothing and makes nothing before it is asked to."""

    def __init__(self, run_dir: Path) -> None:
        """Set which run it belongs to."""
        self.path = run_dir.absolute().with_name(f"{run_dir.absolute().name}.launch")
        """The folder."""
        self.logs = self.path / "logs"
        """Of what was started; there once the folder was made."""
        self._file = self.path / "launch.json"

    @property
    def is_up(self) -> bool:
        """Whether something was started that nobody has taken away."""
        return self._file.is_file()

    def begin(self, record: LaunchRecord) -> None:
        """Make the folder, and put on record what is about to be launched.

        Raises:
            LotteryFLError: something is up already, or the folder cannot be made.
        """
        if self.is_up:
            raise LotteryFLError(f"{self.path}: is launched already: follow it, or take it down with --down")
        try:
            for folder in (self.path, self.logs):
                folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
                folder.chmod(PRIVATE_FOLDER)
        except OSError as error:
            raise LotteryFLError(f"{self.path}: cannot be made: {error.strerror or error}") from error
        self._write(record)

    def record(self) -> LaunchRecord:
        """Read what was launched.

        Raises:
            LotteryFLError: nothing was, or the file is damaged.
        """
        return read_section(self._file, LaunchRecord, _MOST_BYTES)

    def note(self, what: str, names: Sequence[str]) -> None:
        """Put on record, in place of what was there before, what is about to be started, or what has been."""
        record = self.record()
        self._write(record.model_copy(update={"started": {**record.started, what: tuple(names)}}))

    def started(self, what: str) -> tuple[str, ...]:
        """Return what is on record under a word; none: nothing."""
        return self.record().started.get(what, ())

    def make_certificates(self, hosts: Sequence[str], workers: Sequence[str]) -> None:
        """Make an authority of the launch's own, the coordinator's certificate, each worker's, and the observer's.

        Args:
            hosts: names and addresses under which the coordinator is reached.
            workers: names; of several processes that share one, each goes by NAME/SUFFIX (`work --name NAME/`).
        """
        from lotteryfl.server.security.certificates import Authority  # takes its time

        authority = Authority(self._certs)
        authority.issue_to_coordinator(list(hosts), _CERTIFICATE_DAYS)
        for name in workers:
            authority.issue(Identity(name, Role.WORKER), _CERTIFICATE_DAYS)
        authority.issue(Identity("observer", Role.OBSERVER), _CERTIFICATE_DAYS)

    def certificate(self, name: str) -> TLSFiles:
        """Return the files of "coordinator", "observer" or a worker, made or not."""
        folder = self._certs / name
        return TLSFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")

    @property
    def _certs(self) -> Path:
        return self.path / "certs"

    def end(self) -> None:
        """Take away all but the logs; twice is no error."""
        shutil.rmtree(self._certs, ignore_errors=True)
        self._file.unlink(missing_ok=True)

    def _write(self, record: LaunchRecord) -> None:
        write_text(self._file, record.model_dump_json(indent=2, exclude_defaults=True) + "\n")
