"""Who may look: who is on this machine, or has shown who it is over TLS; and that looking is all there is."""

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from lotteryfl.commands.dashboard import dashboard
from lotteryfl.commands.run import run
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.identity import Identity, Role
from lotteryfl.common.security.tls import TLSFiles
from lotteryfl.dashboard.access import COOKIE, Access, PageEndpoint
from lotteryfl.server.security.certificates import COORDINATOR, Authority
from lotteryfl.server.security.tokens import add_token, revoke_token
from tests.support.bench import simulated, tiny_experiment
from tests.support.pages import Browser, address_of
from tests.support.processes import Process
from tests.support.runs import Start


class Public:
    """A page at every address of this machine, over TLS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        simulated(folder / "run", tiny_experiment()).close()
        authority = Authority(folder / "certs")
        authority.issue_to_coordinator(["127.0.0.1", "localhost"], days=1)
        authority.issue(Identity("dash", Role.OBSERVER), days=1)
        self.token = add_token(folder / "tokens.toml", "viewer", Role.OBSERVER)
        self.files = self.of(COORDINATOR)
        self.options = [
            "--listen=0.0.0.0:0",
            *self.files.options(),
            f"--tokens={folder / 'tokens.toml'}",
        ]
        self.process = Process("dashboard", folder / "run", *self.options, cwd=folder, env={})
        found = re.fullmatch(r"https://[^/]+:(\d+)(/enter\?link=\S+)", address_of(self.process))
        assert found
        self.address, self.link = f"https://127.0.0.1:{found[1]}", found[2]

    def of(self, name: str) -> TLSFiles:
        own = self.folder / "certs" / name
        return TLSFiles(own / "tls.crt", own / "tls.key", own / "ca.crt")

    def browser(self, certificate: str = "", **options: object) -> Browser:
        context = ssl.create_default_context(cafile=self.files.ca)
        if certificate:
            own = self.of(certificate)
            context.load_cert_chain(str(own.cert), str(own.key))
        return Browser(self.address, verify=context, **options)


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Public]:
    found = Public(tmp_path_factory.mktemp("public"))
    yield found
    found.process.end()


@pytest.fixture(scope="module")
def local(public: Public) -> Iterator[Browser]:
    process = Process("dashboard", public.folder / "run", cwd=public.folder, env={})
    with Browser.at(process) as browser:
        yield browser
    process.end()


# -- beyond this machine


def test_nobody_looks_without_showing_who_it_is(public: Public) -> None:
    with public.browser() as browser:
        for path in ("/", "/static/index.html", "/api/runs", "/api/runs/run", "/api/runs/run/stream", "/nowhere"):
            why = browser.refused(path, 401)
            assert "by the link" in why
        assert browser.client.get("/").headers["www-authenticate"].startswith("Basic ")
        assert browser.get("/healthz") == {"ok": True}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer viewer.0000000000000000000000000000000000000000000"},
        {"Authorization": "Bearer a b"},
        {"Authorization": "Basic ///"},
        {"Authorization": "Basic dmlld2VyOg=="},
        {"Cookie": f"{COOKIE}="},
        {"Cookie": f"{COOKIE}=9999999999.nonce.{'0' * 64}"},
        {"Cookie": f"{COOKIE}=x.y.z; {COOKIE}=é".encode()},
        {"Cookie": '\\"'},
        {"Cookie": f"{COOKIE}=" + "a" * 8000},
    ],
)
def test_made_up_tokens_and_cookies_lead_nowhere(public: Public, headers: dict[str, str]) -> None:
    with public.browser() as browser:
        assert browser.refused("/api/runs", 401, headers=headers)


def test_a_token_is_a_way_in_until_it_is_revoked(public: Public) -> None:
    tokens = public.folder / "tokens.toml"
    other = add_token(tokens, "other", Role.OBSERVER)
    with public.browser() as browser:
        for given in ({"headers": {"Authorization": f"Bearer {other}"}}, {"auth": ("anybody", other)}):
            assert browser.client.get("/api/runs", **given).status_code == 200
        revoke_token(tokens, "other")
        assert "revoked" in browser.refused("/api/runs", 401, headers={"Authorization": f"Bearer {other}"})


def test_a_certificate_of_the_authority_is_a_way_in(public: Public, tmp_path: Path) -> None:
    with public.browser("dash") as browser:
        assert browser.get("/api/runs")["runs"]
    foreign = Authority(tmp_path / "certs")
    foreign.issue(Identity("dash", Role.OBSERVER), days=1)
    context = ssl.create_default_context(cafile=public.files.ca)
    context.load_cert_chain(tmp_path / "certs/dash/tls.crt", tmp_path / "certs/dash/tls.key")
    with Browser(public.address, verify=context) as browser, pytest.raises((httpx.TransportError, ssl.SSLError)):
        browser.client.get("/api/runs")


def test_a_certificate_that_was_revoked_is_none(public: Public, start: Start) -> None:
    authority, revoked = public.folder / "certs", public.folder / "certs/revoked.pem"
    for name in ("gone", "stays"):
        Authority(authority).issue(Identity(name, Role.OBSERVER), days=1)
    context = ssl.create_default_context(cafile=public.files.ca)
    context.load_cert_chain(authority / "gone/tls.crt", authority / "gone/tls.key")
    Authority(authority).revoke("stays")
    process = start("dashboard", public.folder / "run", *public.options, f"--revoked={revoked}")
    address = re.sub("//[^/]+:", "//127.0.0.1:", address_of(process)).partition("/enter")[0]
    with Browser(address, verify=context) as browser:
        assert browser.get("/api/runs")["runs"]
        Authority(authority).revoke("gone")
        assert browser.refused("/api/runs", 401) == "the certificate was revoked"


def test_who_does_the_work_of_some_clients_does_not_look_at_all_of_them(public: Public) -> None:
    tokens, authority = public.folder / "tokens.toml", Authority(public.folder / "certs")
    for name, role, status in (("worker", Role.WORKER, 401), ("olga", Role.OPERATOR, 200)):
        authority.issue(Identity(name, role), days=1)
        token = add_token(tokens, name, role)
        with public.browser(name) as by_certificate, public.browser() as by_token:
            answers = (
                by_certificate.client.get("/api/runs"),
                by_token.client.get("/api/runs", headers={"Authorization": f"Bearer {token}"}),
            )
        assert [answer.status_code for answer in answers] == [status, status]
        if status == 401:
            expected = "worker is a worker: expected an observer or an operator"
            assert [answer.json()["error"] for answer in answers] == [expected, expected]


def test_the_link_leads_in_once_and_its_cookie_survives_a_restart(public: Public, start: Start) -> None:
    with public.browser() as browser:
        assert browser.client.head(public.link).status_code == 200
        entered = browser.client.get(public.link)
        assert entered.status_code == 200
        assert 'content="0; url=/"' in entered.text
        cookie = entered.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        for part in ("HttpOnly", "SameSite=strict", "Secure", "Path=/"):
            assert part in cookie
        assert entered.headers["cache-control"] == "no-store"
        assert browser.get("/api/runs")["runs"]
        value = cookie.partition("=")[2].partition(";")[0]
    with public.browser() as other:
        assert "used already" in other.refused(public.link, 403)
        assert "used already" in other.refused("/enter", 403)
        cut = other.client.get("/api/runs", headers={"Cookie": f"{COOKIE}={value[:-1]}"})
        assert cut.status_code == 401
        later = re.sub(r"^\d+", "9999999999", value)
        assert other.client.get("/api/runs", headers={"Cookie": f"{COOKIE}={later}"}).status_code == 401
    again = start("dashboard", public.folder / "run", *public.options)
    port = address_of(again).partition("/enter")[0].rpartition(":")[2]
    context = ssl.create_default_context(cafile=public.files.ca)
    with Browser(f"https://127.0.0.1:{port}", verify=context) as browser:
        assert browser.client.get("/api/runs", headers={"Cookie": f"{COOKIE}={value}"}).status_code == 200


def test_a_session_ends(public: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(PageEndpoint("0.0.0.0:1", public.files))
    cookie = access.enter(access.link().partition("=")[2])
    assert cookie
    headers = {"cookie": f"{COOKIE}={cookie}"}
    assert access.may_look(headers, None) == ""
    monkeypatch.setattr("time.time", lambda: float(cookie.partition(".")[0]) + 1)
    assert access.may_look(headers, None)


def test_plaintext_gets_nowhere(public: Public) -> None:
    with (
        Browser(public.address.replace("https", "http")) as browser,
        pytest.raises(httpx.TransportError),
    ):
        browser.client.get("/api/runs")


# -- on this machine


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:1234", "[::1]:80", "LOCALHOST"])
def test_on_this_machine_nobody_is_asked(local: Browser, host: str) -> None:
    assert local.client.get("/api/runs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[::2]", "", "0"]
)
def test_names_that_were_made_to_lead_here_do_not(local: Browser, host: str) -> None:
    assert "localhost" in local.refused("/api/runs", 421, headers={"Host": host})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_looking_is_all_there_is(local: Browser, method: str) -> None:
    response = local.client.request(method, "/api/runs")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/", "/runs/run", "/static/index.html", "/api/runs", "/nowhere", "/healthz", "/enter"]
)
def test_every_answer_keeps_the_page_to_itself(local: Browser, path: str) -> None:
    headers = local.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers
    is_static = path.startswith(("/static", "/runs")) or path == "/"
    assert headers["cache-control"] == ("no-cache" if is_static else "no-store")


def test_the_pages_own_files_are_all_there_and_stay_with_who_has_them(local: Browser) -> None:
    page = local.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon\w+=|javascript:", page.text)
    found = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert found
    for path in found:
        first = local.client.get(path)
        assert first.status_code == 200
        assert local.client.get(path, headers={"If-None-Match": first.headers["etag"]}).status_code == 304


# -- what is refused before anything is shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--listen", "0.0.0.0:0"], "0.0.0.0:0: other machines can reach it, and the page would not be encrypted"),
        (["--listen", "0.0.0.0:0", "--tokens", "tokens.toml"], "would not be encrypted: give --tls-cert and --tls-key"),
        (["--listen", "8080"], "8080: has no port"),
        (["--listen", "unix:/tmp/page"], "browsers come to HOST:PORT"),
        (["--coordinator", "127.0.0.1:1", "elsewhere"], "expected one DIR"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    public: Public, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(public.folder)
    error = CliRunner().invoke(dashboard, ["run", *arguments]).exception
    assert isinstance(error, LotteryFLError)
    assert expected in str(error)


def test_no_run_and_no_free_port_are_one_line(start: Start, public: Public, local: Browser, tmp_path: Path) -> None:
    error = CliRunner().invoke(dashboard, [str(tmp_path)]).exception
    assert str(error).startswith(f"{tmp_path}: is no run directory")
    taken = start("dashboard", public.folder / "run", "--listen", local.client.base_url.netloc.decode())
    assert taken.exit_code() == 1
    assert "the page cannot listen there" in taken.error_line


def test_run_shows_its_page_on_this_machine_alone() -> None:
    error = CliRunner().invoke(run, ["no.toml", "--dashboard", "0.0.0.0:8080"]).exception
    assert "expected a loopback address, as 127.0.0.1:8080" in str(error)


def test_without_what_it_needs_the_page_names_the_extra(public: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lotteryfl.dashboard.extra.find_spec", lambda name: None)
    error = CliRunner().invoke(dashboard, [str(public.folder / "run")]).exception
    assert str(error) == "starlette is not installed: the page needs it: pip install 'lotteryfl[dashboard]'"
