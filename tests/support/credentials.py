"""Certificates and tokens of everyone in a test."""

from pathlib import Path

from lotteryfl.common.security.identity import Identity, Role
from lotteryfl.common.security.tls import ChannelSecurity, TLSFiles
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.security.certificates import COORDINATOR, Authority
from lotteryfl.server.security.tokens import add_token

HERE = "127.0.0.1:0"


class Credentials:
    """Certificates of a coordinator, the workers alice and bob, the observer dash and the operator olga."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = Authority(folder / "certs")
        authority.issue_to_coordinator(["coordinator.example.org"], days=1)
        for name in ("alice", "bob"):
            authority.issue(Identity(name, Role.WORKER), days=1)
        authority.issue(Identity("dash", Role.OBSERVER), days=1)
        authority.issue(Identity("olga", Role.OPERATOR), days=1)
        self.tokens = folder / "tokens.toml"

    def files(self, name: str) -> TLSFiles:
        own = self.folder / "certs" / name
        return TLSFiles(own / "tls.crt", own / "tls.key", own / "ca.crt")

    def of(self, name: str) -> ChannelSecurity:
        """Return what shows the coordinator that it is called by this name."""
        return ChannelSecurity(self.files(name))

    @property
    def authority(self) -> TLSFiles:
        """The authority alone: without a certificate of one's own."""
        return TLSFiles(ca=self.folder / "certs/ca.crt")

    def options(self, name: str) -> list[str]:
        """Return the options that name the files."""
        return self.files(name).options()

    @property
    def mutual(self) -> Endpoint:
        """An endpoint that wants certificates."""
        return Endpoint(HERE, self.files(COORDINATOR))

    @property
    def with_tokens(self) -> Endpoint:
        """An endpoint that wants tokens; there is one of `first` from the start."""
        own = self.files(COORDINATOR)
        if not self.tokens.exists():
            self.new_token("first")
        return Endpoint(HERE, TLSFiles(own.cert, own.key), self.tokens)

    def new_token(self, name: str, role: Role = Role.WORKER) -> str:
        return add_token(self.tokens, name, role)

    def by_token(self, token: str) -> ChannelSecurity:
        return ChannelSecurity(self.authority, token)
