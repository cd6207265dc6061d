"""Names, and what certificates may say about their holders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lotteryfl.common.security.identity import (
    Identity,
    IdentityError,
    Role,
    check_incarnation,
    check_issued_name,
    check_name,
)
from lotteryfl.common.text import printable


@pytest.mark.parametrize("role", list(Role))
def test_a_certificate_says_role_and_name(role: Role) -> None:
    identity = Identity("gpu-1", role)
    assert Identity.of_certificate([identity.uri, "https://example.org"], ["other"]) == identity


def test_a_certificate_of_ones_own_authority_is_the_worker_of_its_common_name() -> None:
    assert Identity.of_certificate(["https://example.org"], ["Klinik Süd"]) == Identity("Klinik Süd", Role.WORKER)


@pytest.mark.parametrize(
    ("uris", "names", "reason"),
    [
        ([], [], "must say one name"),
        ([], ["a", "b"], "must say one name"),
        (["urn:lotteryfl:worker:a", "urn:lotteryfl:worker:b"], ["a"], "must say one name"),
        (["urn:lotteryfl:admin:a"], ["a"], "role 'admin'"),
        (["urn:lotteryfl:worker"], ["a"], "1 to 256 printable characters"),
        (["urn:lotteryfl:worker:a:b"], ["a"], "without a colon"),
        (["urn:lotteryfl:worker:a/b"], ["a"], "must be without /"),
        ([], ["a/b"], "must be without /"),
        ([], ["a\nb"], "name 'a?b'"),
    ],
)
def test_a_certificate_that_is_not_clear_is_nobodys(uris: list[str], names: list[str], reason: str) -> None:
    with pytest.raises(IdentityError, match=reason.replace("?", r"\?")):
        Identity.of_certificate(uris, names)


@pytest.mark.parametrize(
    ("name", "owned"),
    [
        ("gpu", True),
        ("gpu/host-1", True),
        ("gpu/a/b", True),
        ("gpu1", False),
        ("gp", False),
        ("GPU", False),
        ("", False),
    ],
)
def test_one_goes_by_ones_own_name_alone(name: str, owned: bool) -> None:
    assert Identity("gpu", Role.WORKER).owns(name) is owned


@given(st.text(max_size=300))
def test_a_name_is_printable_and_splits_from_its_incarnation(name: str) -> None:
    error = ""
    try:
        check_name(name)
    except IdentityError as raised:
        error = str(raised)
    assert error.isprintable()
    assert error or printable(name) == name
    assert error or f"{name}:{'0' * 32}".split(":") == [name, "0" * 32]


@pytest.mark.parametrize("name", ["", "a" * 257, "a:b", "a\x1b[0m", "a\n"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(IdentityError, match="1 to 256 printable characters without a colon"):
        check_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "a/b", "a:b", "a b", "ä", "a\n", "a" * 65])
def test_certificates_and_tokens_are_for_names_that_can_be_files(name: str) -> None:
    check_issued_name("gpu-1.example_2@site")
    with pytest.raises(IdentityError, match="expected 1 to 64 letters, digits"):
        check_issued_name(name)


@pytest.mark.parametrize(
    "incarnation", ["", "1", "g" * 32, "A" * 32, "0" * 33, "0" * 31 + "\n", "0" * 16 + ":" + "0" * 15]
)
def test_an_incarnation_is_32_hexadecimal_digits(incarnation: str) -> None:
    check_incarnation("0123456789abcdef" * 2)
    with pytest.raises(IdentityError, match="expected 32 hexadecimal digits"):
        check_incarnation(incarnation)
