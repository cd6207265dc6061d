"""`lotteryfl token` and the file that it writes."""

import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from lotteryfl.commands.security import token as command
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.identity import Identity, IdentityError, Role
from lotteryfl.common.security.tls import TOKEN, SecurityError
from lotteryfl.program import program
from lotteryfl.server.security.tokens import TokenFile, add_token, revoke_token


def run(*arguments: object) -> str:
    done = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False, standalone_mode=False)
    return done.stdout


def test_a_token_shows_who_it_is_and_the_file_does_not_hold_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    worker = run("gpu-1.example.org", "--tokens", file).strip()
    observer = run("dash", "--tokens", file, "--observer").strip()
    tokens = TokenFile(file)
    assert tokens.identify(worker) == Identity("gpu-1.example.org", Role.WORKER)
    assert tokens.identify(observer) == Identity("dash", Role.OBSERVER)
    for token in (worker, observer):
        assert TOKEN.fullmatch(token)
        assert token.rpartition(".")[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.toml"]


def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """That of the coordinator's tokens, and a worker's with its own."""
    file, own = tmp_path / "tokens.toml", tmp_path / "own.token"
    token = run("gpu-1", "--tokens", file).strip()
    for path, text in ((file, file.read_text()), (own, token)):
        path.write_text(text, encoding="utf-8-sig")
    assert TokenFile(file).identify(token) == Identity("gpu-1", Role.WORKER)
    arguments = ["status", "127.0.0.1:1", "--token-file", str(own)]
    result = CliRunner().invoke(program, arguments, standalone_mode=False)
    assert "a token is sent over TLS alone" in str(result.exception)


def test_any_other_token_is_unknown(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    one, other = (add_token(file, name, Role.WORKER) for name in ("one", "other"))
    tokens = TokenFile(file)
    name, _, secret = one.rpartition(".")
    swapped = f"other.{secret}"
    for wrong in (
        "",
        "one",
        "one.",
        secret,
        swapped,
        f"{name}.{secret[:-1]}",
        f"{one} ",
        one.upper(),
        f"nobody.{secret}",
    ):
        with pytest.raises(IdentityError, match=r"^the token is unknown, or was revoked$"):
            tokens.identify(wrong)
    assert tokens.identify(other).name == "other"


def test_changes_are_noticed_with_the_next_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "tokens.toml"
    first = add_token(file, "first", Role.WORKER)
    tokens = TokenFile(file)
    second = add_token(file, "second", Role.WORKER)
    assert tokens.identify(second).name == "second"
    assert "first is revoked" not in run("first", "--tokens", file, "--revoke")
    with pytest.raises(IdentityError):
        tokens.identify(first)
    assert tokens.identify(second).name == "second"

    kept = file.read_text()
    with caplog.at_level(logging.WARNING):
        for content in ("[second", None):
            file.unlink() if content is None else file.write_text(content)
            for _ in range(3):
                with pytest.raises(IdentityError):
                    tokens.identify(second)
    assert [record.message.partition(":")[0] for record in caplog.records] == [str(file)] * 2, "each change once"
    file.write_text(kept)
    assert tokens.identify(second).name == "second"


def test_a_name_has_one_token_until_it_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    old = add_token(file, "a", Role.WORKER)
    with pytest.raises(LotteryFLError, match="a has a token already: --revoke it first"):
        add_token(file, "a", Role.WORKER)
    revoke_token(file, "a")
    with pytest.raises(LotteryFLError, match="a has no token"):
        revoke_token(file, "a")
    assert add_token(file, "a", Role.WORKER) != old


def test_tokens_that_are_made_at_once_are_all_there(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    names = [f"worker-{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda name: add_token(file, name, Role.WORKER), names))
    tokens = TokenFile(file)
    assert [tokens.identify(token).name for token in made] == names


@pytest.mark.parametrize(
    "content", ["[a", 'a = "b"', '[a]\nrole = "admin"\nsha256 = ""', '[a]\nrole = "worker"\nsha256 = "abc"', "\x00"]
)
def test_a_file_that_holds_no_tokens_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(content)
    for use in (TokenFile, lambda path: add_token(path, "a", Role.WORKER)):
        with pytest.raises(SecurityError, match=r"tokens\.toml: expected tokens as `lotteryfl token` writes them"):
            use(file)
    assert file.read_text() == content
    with pytest.raises(SecurityError, match="none: cannot be read: No such file"):
        TokenFile(tmp_path / "none")
    with pytest.raises(LotteryFLError, match="none/tokens: cannot be written: No such file"):
        add_token(tmp_path / "none/tokens", "a", Role.WORKER)


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(LotteryFLError, match="name 'a/b': expected 1 to 64 letters"):
        run("a/b", "--tokens", tmp_path / "tokens")
    assert list(tmp_path.iterdir()) == []
