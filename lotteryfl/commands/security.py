"""The commands that make certificates and tokens."""

from collections import Counter
from pathlib import Path

import click

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.identity import Identity, Role, check_issued_name
from lotteryfl.server.security.certificates import COORDINATOR, REVOKED, Authority
from lotteryfl.server.security.tokens import add_token, revoke_token


@click.command()
@click.option("--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Of the authority, too.")
@click.option("--coordinator", "hosts", metavar="HOST[,HOST]", help="Names and addresses under which it is reached.")
@click.option("--worker", "workers", multiple=True, metavar="NAME", help="A worker, or all those of one host or owner.")
@click.option("--observer", "observers", multiple=True, metavar="NAME", help="May look at the run, and no more.")
@click.option("--operator", "operators", multiple=True, metavar="NAME", help="May look at the run, and steer it.")
@click.option("--revoke", "revoked", multiple=True, metavar="NAME", help="Its certificate counts no more.")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="New ones are valid for.")
def certs(
    out: Path,
    hosts: str | None,
    workers: tuple[str, ...],
    observers: tuple[str, ...],
    operators: tuple[str, ...],
    revoked: tuple[str, ...],
    days: int,
) -> None:
    """Make certificates for mutual TLS, under an authority of their own in DIR; what is there stays as it is."""
    identities = [Identity(name, Role.WORKER) for name in workers]
    identities += [Identity(name, Role.OBSERVER) for name in observers]
    identities += [Identity(name, Role.OPERATOR) for name in operators]
    if hosts is None and not identities and not revoked:
        raise LotteryFLError(
            "nothing to make: name the --coordinator's hosts, a --worker or an --observer or an --operator"
        )
    _check_names([*revoked, *(identity.name for identity in identities)])
    authority = Authority(out)
    for name in revoked:
        serial = authority.revoke(name).serial_number
        click.echo(f"{out / name}: certificate {serial:x} is revoked for who has --revoked {out / REVOKED}")
    made = []
    if hosts is not None:
        certificate = authority.issue_to_coordinator([host.strip() for host in hosts.split(",")], days)
        made.append((COORDINATOR, f"coordinator at {hosts}", certificate))
    made += [(who.name, f"{who.role} {who.name}", authority.issue(who, days)) for who in identities]
    for name, who, certificate in made:
        click.echo(f"{out / name}: {who}, until {certificate.not_valid_after_utc:%Y-%m-%d}")
    if made:
        click.echo(f"{out / 'ca.key'} signs more of them: keep it from everyone else")


@click.command()
@click.argument("name")
@click.option("--tokens", required=True, metavar="FILE", type=click.Path(path_type=Path), help="As for `serve`.")
@click.option("--observer", is_flag=True, help="May look at the run, and no more.")
@click.option("--operator", is_flag=True, help="May look at the run, and steer it.")
@click.option("--revoke", is_flag=True, help="Take NAME's token back.")
def token(name: str, tokens: Path, observer: bool, operator: bool, revoke: bool) -> None:
    """Make a token by which NAME shows who it is, and print it: FILE only gets its SHA-256."""
    if observer and operator:
        raise click.UsageError("token: expected one of --observer and --operator: an operator may look, too")
    if revoke:
        revoke_token(tokens, name)
        click.echo(f"{tokens}: the token of {name} is revoked", err=True)
    else:
        role = Role.OPERATOR if operator else Role.OBSERVER if observer else Role.WORKER
        click.echo(add_token(tokens, name, role))


def _check_names(names: list[str]) -> None:
    for name, count in Counter(names).items():
        check_issued_name(name)
        if count > 1:
            raise LotteryFLError(f"name {name!r}: is given {count} times")
        if name in (COORDINATOR, "ca.key", "ca.crt", REVOKED):
            raise LotteryFLError(f"name {name!r}: is taken by the authority or the coordinator")
