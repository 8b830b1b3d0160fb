"""TLS to a real redis-server: the documented URLs work, a wrong authority or host is refused."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from gamegirl.actors import StoreUnavailableError
from gamegirl.supervisor import RedisStore, Settings, Supervisor
from gamegirl.supervisor.stores import Process

pytestmark = pytest.mark.anyio

START_SECONDS = 10.0
DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


@attrs.frozen
class Tls:
    """A server that speaks TLS alone, and knows its clients by their certificates if told so.

    Attributes:
        folder: Where the certificates are: of an authority (ca.pem), of another one (other.pem),
            of a client (client.pem, client.key).
        port: Where it listens; its certificate is for `localhost` only.
        knows_clients: It asks them for a certificate.
    """

    folder: Path
    port: int
    knows_clients: bool

    def url(self, host: str = "localhost", **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"rediss://{host}:{self.port}/0?{query}"

    def trusted(self, host: str = "localhost", **options: str) -> str:
        """The URL that works, if the host is right."""
        own = {"ssl_certfile": self.file("client.pem"), "ssl_keyfile": self.file("client.key")}
        return self.url(
            host,
            ssl_ca_certs=self.file("ca.pem"),
            **(own if self.knows_clients else {}),
            **options,
        )

    def file(self, name: str) -> str:
        return str(self.folder / name)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)


def make_certificates(folder: Path) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        subject = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl(folder, "req", "-x509", *key, *subject)
    for name in ("server", "client"):
        extension = folder / f"{name}.ext"
        extension.write_text("subjectAltName=DNS:localhost\n")
        request = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, "req", *key[:-2], *request)
        authority = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        files = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", extension.name)
        openssl(folder, "x509", "-req", *authority, *files)


@pytest.fixture(params=["no", "yes"], ids=["anybody", "known clients"])
def tls(request: pytest.FixtureRequest, redis_binary: Path, tmp_path: Path) -> Iterator[Tls]:
    """A server with TLS; some of the development dependencies carry one that has none."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    make_certificates(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    command = [str(redis_binary), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1"]
    command += ["--tls-cert-file", "server.pem", "--tls-key-file", "server.key"]
    command += ["--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", request.param, "--save", ""]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=stream, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while b"Ready to accept connections" not in log.read_bytes():
            if process.poll() is not None and b"tls-port" in log.read_bytes():
                pytest.skip(f"{redis_binary} was built without TLS")
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        yield Tls(tmp_path, port, knows_clients=request.param == "yes")
    finally:
        process.kill()
        process.wait()


async def refused(url: str) -> str:
    store = RedisStore(url, timeout_seconds=1.0)
    with pytest.raises(StoreUnavailableError) as caught:
        await store.open(Process("p"), 5.0)
    await store.aclose()
    return str(caught.value)


async def test_a_game_is_played_over_tls(tls: Tls) -> None:
    """With the authority's certificate named in the URL, as documented."""
    async with Supervisor(tls.trusted(ssl_min_version="771"), settings=Settings()) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        assert (await session.press("1", "Ana", "x")).opened
        assert supervisor.statistics().commits == 2


async def test_a_wrong_authority_is_refused_with_a_clear_error(tls: Tls) -> None:
    """Another authority, or none that this machine trusts: no connection, and why."""
    assert "isn't for this host, or not trusted" in await refused(tls.url())
    other = tls.url(ssl_ca_certs=tls.file("other.pem"))
    assert "isn't for this host, or not trusted" in await refused(other)


async def test_the_hosts_name_is_checked(tls: Tls) -> None:
    """A good certificate of another host is refused; only who says so goes without the check."""
    assert "isn't for this host" in await refused(tls.trusted("127.0.0.1"))
    store = RedisStore(tls.trusted("127.0.0.1", ssl_check_hostname="False"))
    await store.open(Process("p"), 5.0)
    await store.aclose()


async def test_what_is_wrong_with_tls_is_told(tls: Tls) -> None:
    """No TLS on our side, no file of that name, no certificate of ours where one is asked for."""
    plain = tls.url().replace("rediss://", "redis://")
    assert "no connection" in await refused(plain)
    assert "No such file" in await refused(tls.url(ssl_ca_certs=tls.file("missing.pem")))
    if tls.knows_clients:
        anonymous = await refused(tls.url(ssl_ca_certs=tls.file("ca.pem")))
        assert "no connection" in anonymous


async def test_tls_to_a_server_without_it_is_told(redis_url: str) -> None:
    """A server that speaks no TLS gives no answer that could be taken for one."""
    answer = await refused(redis_url.replace("redis://", "rediss://"))
    assert "Redis could not open" in answer
    assert "TLS" in answer or "in time" in answer


def test_the_document_names_these_options() -> None:
    """The URLs of docs/operations.md have the options that are tested here, and no others."""
    options = set(re.findall(r"[?&](ssl_\w+)=", DOCUMENT.read_text()))
    assert options == {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
