"""The coordinator's certificate, in files that may be renewed at any time: the next handshake has the new one."""

import logging
from threading import Lock

import grpc

from lotteryfl.common.security.certificate import load_certificate
from lotteryfl.common.security.tls import SecurityError, TLSFiles

_log = logging.getLogger("lotteryfl.coordinator")


class RenewedCertificate:
    """Certificate, key, and the authorities of callers' certificates; connections that are there keep what they had."""

    def __init__(self, tls: TLSFiles) -> None:
        """Read the files.

        Raises:
            SecurityError: one cannot be used, or the certificate has expired.
        """
        self._tls = tls
        self._lock = Lock()
        self._version = tls.version()
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._read(),
            self._renewed,  # type: ignore[arg-type]  # the stubs do not know of None
            require_client_authentication=tls.ca is not None,
        )
        """What a port is secured with. gRPC calls it, and does not hold it: whoever listens does."""

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what the files hold, in a thread of gRPC's before a handshake; None: nothing that is new and usable.

        Not what they held before: gRPC is not safe from two handshakes at once that both bring it something.
        """
        with self._lock:
            version = self._tls.version()
            if version == self._version:
                return None
            self._version = version
            try:
                renewed = self._read()
            except SecurityError as error:
                _log.warning("%s; the certificate from before is used on", error)
                return None
            _log.warning("%s: has changed, and is used from now on", self._tls.cert)
            return renewed

    def _read(self) -> grpc.ServerCertificateConfiguration:
        pair = self._tls.pair()
        if pair is None or self._tls.cert is None:
            raise SecurityError("--tls-cert and --tls-key: are needed to listen with TLS")
        load_certificate(self._tls.cert)
        return grpc.ssl_server_certificate_configuration([pair], self._tls.authorities())
