"""Options that secure calls between a coordinator and who calls it."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lotteryfl.common.security.tls import ChannelSecurity, SecurityError, TLSFiles, read_token
from lotteryfl.running.environment import TLS_PREFIX, TOKEN_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])


def tls_options(command: F) -> F:
    """Give a command --tls-cert, --tls-key and --tls-ca, as its parameter `tls`."""

    def option(name: str, text: str) -> Callable[[Any], Any]:
        variable = f"{TLS_PREFIX}{name.upper()}"
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


token_file_option = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help=f"Holds the token that shows who this is. [or ${TOKEN_VARIABLE}, the token itself]",
)
"""Gives the command `token_file`, for `read_token_file`."""


def channel_options(command: F) -> F:
    """Give a command all that secures a call to a coordinator, as its parameter `security`."""

    @functools.wraps(command)
    def wrapped(*args: Any, tls: TLSFiles, token_file: Path | None, insecure: bool, **options: Any) -> object:
        return command(*args, security=ChannelSecurity(tls, read_token_file(token_file), insecure), **options)

    return tls_options(token_file_option(insecure_option(wrapped)))  # type: ignore[return-value]


def read_token_file(file: Path | None) -> str:
    """Return the token that a file holds, or where there is none the environment; '': there is none.

    Raises:
        SecurityError: what is there is none.
    """
    if file is None:
        text = os.environ.get(TOKEN_VARIABLE, "")
        return read_token(text, f"${TOKEN_VARIABLE}") if text else ""
    try:
        return read_token(file.read_text(encoding="utf-8-sig"), str(file))
    except OSError as error:
        raise SecurityError(f"--token-file {file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SecurityError(f"--token-file {file}: holds no token") from error
