"""The options of the commands that call a coordinator, or are one."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lotteryfl.common.security.tls import ChannelSecurity, SecurityError, TLSFiles, read_token

F = TypeVar("F", bound=Callable[..., Any])

TOKEN_VARIABLE = "LOTTERYFL_TOKEN"  # noqa: S105 - the variable's name
_PREFIX = "LOTTERYFL_TLS_"
VARIABLES = (TOKEN_VARIABLE, *(f"{_PREFIX}{name}" for name in ("CERT", "KEY", "CA")))
"""What may say in the environment who this is: not for processes that are somebody else."""


def tls_options(command: F) -> F:
    """Give a command --tls-cert, --tls-key and --tls-ca, as its parameter `tls`."""

    def option(name: str, text: str) -> Callable[[Any], Any]:
        variable = f"{_PREFIX}{name.upper()}"
        return click.option(
            f"--tls-{name}", type=click.Path(path_type=Path), envvar=variable, help=f"{text}, in PEM. [or ${variable}]"
        )

    @functools.wraps(command)
    def wrapped(*args: Any, tls_cert: Path | None, tls_key: Path | None, tls_ca: Path | None, **options: Any) -> object:
        return command(*args, tls=TLSFiles(tls_cert, tls_key, tls_ca), **options)

    for decorator in (
        option("ca", "The authority of the other side's certificates"),
        option("key", "The private key of that certificate"),
        option("cert", "This side's certificate"),
    ):
        wrapped = decorator(wrapped)
    return wrapped  # type: ignore[return-value]


insecure_option = click.option("--insecure", is_flag=True, help="Allow plaintext beyond this machine.")


def channel_options(command: F) -> F:
    """Give a command all that secures a call to a coordinator, as its parameter `security`."""

    @functools.wraps(command)
    def wrapped(*args: Any, tls: TLSFiles, token_file: Path | None, insecure: bool, **options: Any) -> object:
        return command(*args, security=ChannelSecurity(tls, _token(token_file), insecure), **options)

    token_file = click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help=f"Holds the token that shows who this is. [or ${TOKEN_VARIABLE}, the token itself]",
    )
    return tls_options(token_file(insecure_option(wrapped)))  # type: ignore[return-value]


def _token(file: Path | None) -> str:
    if file is None:
        text = os.environ.get(TOKEN_VARIABLE, "")
        return read_token(text, f"${TOKEN_VARIABLE}") if text else ""
    try:
        return read_token(file.read_text(encoding="utf-8"), str(file))
    except OSError as error:
        raise SecurityError(f"--token-file {file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SecurityError(f"--token-file {file}: holds no token") from error
