"""Where a coordinator listens, how that is secured, and what it answers there."""

from dataclasses import dataclass, field
from pathlib import Path

from lotteryfl.common.commandline import given
from lotteryfl.common.experiment.settings import AccessSettings
from lotteryfl.common.prometheus.exposing import check_exposed
from lotteryfl.common.security.address import check_address, check_free
from lotteryfl.common.security.tls import HELP, SecurityError, TLSFiles, is_loopback
from lotteryfl.server.rpc.callers.admitted import Way
from lotteryfl.server.rpc.callers.authentication import by_certificate, by_token
from lotteryfl.server.rpc.callers.renewal import RenewedCertificate
from lotteryfl.server.security.revoked import RevokedCertificates
from lotteryfl.server.security.tokens import TokenFile


@dataclass(frozen=True)
class Endpoint:
    """An address to listen at."""

    address: str
    """HOST:PORT; with port 0 a free one is taken."""
    tls: TLSFiles = field(default_factory=TLSFiles)
    """Certificate and key; with an authority, callers need a certificate of it."""
    tokens: Path | None = None
    """The file of tokens, of which every caller needs one."""
    insecure: bool = False
    """Whether less than TLS and knowing who calls is wanted beyond this machine."""
    reflection: bool = False
    """Whether callers may ask which calls there are."""
    health: str = ""
    """Another HOST:PORT, where the health service alone is answered in plaintext; empty: nowhere."""
    revoked: Path | None = None
    """The file of callers' certificates that do not count any more."""
    metrics: str = ""
    """Another HOST:PORT, where Prometheus reads how the run goes, in plaintext; empty: nowhere."""

    @property
    def asks_who_calls(self) -> bool:
        """Whether callers have to show who they are."""
        return self.tls.ca is not None or self.tokens is not None

    def options(self) -> list[str]:
        """Return the options of `lotteryfl serve` that mean this endpoint."""
        rest = given(
            tokens=self.tokens,
            revoked=self.revoked,
            health_listen=self.health,
            metrics=self.metrics,
            insecure=self.insecure,
            reflection=self.reflection,
        )
        return [*given(listen=self.address), *self.tls.options(), *rest]

    def check(self) -> str:
        """Check that everything can be used and is enough for the address; return a warning, if one is due.

        Raises:
            AddressError: the address to listen at, or the one for health or metrics, is none.
            LotteryFLError: what metrics need is not installed.
            SecurityError: it cannot, or is not.
        """
        check_address(self.address, listens=True)
        if self.health:
            check_address(self.health, listens=True)
        if self.metrics:
            check_exposed(self.metrics)
        if self.tls and self.tls.pair() is None:
            raise SecurityError("--tls-ca: is of use only together with --tls-cert and --tls-key")
        if self.tokens and not self.tls:
            raise SecurityError(f"--tokens: tokens are sent over TLS alone: give --tls-cert and --tls-key; {HELP}")
        if self.revoked and not self.tls.ca:
            raise SecurityError("--revoked: is of use only together with --tls-ca, by which callers show certificates")
        self.credentials()
        self.identify()
        if is_loopback(self.address) or (self.tls and self.asks_who_calls):
            return ""
        missing = "nobody is asked who they are" if self.tls else "calls are not encrypted, and anyone may take part"
        if self.insecure:
            return f"warning: {self.address}: {missing}"
        raise SecurityError(
            f"{self.address}: other machines can reach it, and {missing}: give --tls-cert and --tls-key with --tls-ca "
            f"or --tokens ({HELP}), or allow it with --insecure"
        )

    def check_free(self) -> None:
        """Check that it can be listened at, before a run is set up for who is to come.

        Raises:
            AddressError: the address, or the one for health, is in use or not this host's.
        """
        for address in filter(None, (self.address, self.health)):
            check_free(address)

    def check_access(self, access: AccessSettings) -> None:
        """Check that what an experiment says about access can be kept.

        Raises:
            SecurityError: it cannot.
        """
        if access.workers and not self.asks_who_calls:
            raise SecurityError(
                "access.workers says who may work, and nobody would be asked who they are: "
                f"give --tls-ca or --tokens; {HELP}"
            )

    def credentials(self) -> RenewedCertificate | None:
        """Return what the port is secured with; None: nothing.

        Raises:
            SecurityError: a file cannot be used, or a certificate has expired.
        """
        return RenewedCertificate(self.tls) if self.tls else None

    def identify(self) -> tuple[Way, ...]:
        """Return how callers show who they are; in no way where nobody is asked.

        Raises:
            SecurityError: the tokens, or the list of revoked certificates, cannot be read.
        """
        ways = []
        if self.tls.ca is not None:
            ways.append(by_certificate(RevokedCertificates(self.revoked, self.tls.ca) if self.revoked else None))
        if self.tokens is not None:
            ways.append(by_token(TokenFile(self.tokens)))
        return tuple(ways)
