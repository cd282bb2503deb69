"""HTTP servers for what `tests.servers` is too well-behaved for: odd answers byte by byte, TLS, and proxies."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers import Answer

BLOCK = 1 << 16


class Asked:
    """A request as it came.

    Attributes:
        method: such as GET.
        target: as it stands in the first line: a path, a whole address, or host and port of a CONNECT.
        headers: by lower-case name.
        body: all of it.
    """

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


def read_request(connection: socket.socket) -> Asked | None:
    """The next request; None where the other side has gone."""
    received = b""
    while b"\r\n\r\n" not in received:
        block = connection.recv(BLOCK)
        if not block:
            return None
        received += block
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(BLOCK)
    method, target, _ = first.split(" ")
    return Asked(method, target, headers, body)


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Generator[int]:
    """Listen on a loopback port, and call *serve* with each connection in a thread of its own; yields the port."""
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    def accept() -> None:
        while True:
            try:
                connection = listening.accept()[0]
            except OSError:
                return
            connections.append(connection)
            threads.append(threading.Thread(target=handle, args=(connection,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for one in threads:
                one.join()


@contextmanager
def odd_server(answer: Callable[[socket.socket, Asked], None]) -> Generator[str]:
    """Let *answer* write whatever it likes to each request, after which the connection ends; yields the address."""

    def serve(connection: socket.socket) -> None:
        asked = read_request(connection)
        if asked is not None:
            answer(connection, asked)

    with serving(serve) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def said(*blocks: bytes) -> Generator[str]:
    """A server that answers each request with *blocks*, then ends the connection."""

    def answer(connection: socket.socket, asked: Asked) -> None:
        for block in blocks:
            connection.sendall(block)

    with odd_server(answer) as address:
        yield address


def send(connection: socket.socket, answer: Answer) -> None:
    """Write an answer after which the connection ends."""
    status, headers, body = answer
    given = {"Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    connection.sendall(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + body)


class Authority:
    """A certificate authority of a test's own.

    Attributes:
        certificate: a file with what has to be trusted, in PEM.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        made = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / "authority.pem"
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def context_for(self, *hosts: str) -> ssl.SSLContext:
        """What a server of these hosts wraps its connections with."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        made = (
            self._builder(name, key)
            .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{hosts[0]}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_USAGE, critical=True)
        )


_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@contextmanager
def tls_server(context: ssl.SSLContext, answer: Answer) -> Generator[int]:
    """Answer every request over TLS; yields the port."""

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            if read_request(secure) is not None:
                send(secure, answer)

    with serving(serve) as port:
        yield port


class Internet:
    """A proxy behind which there is an internet of a test's own: it answers in place of all hosts, over TLS too.

    Args:
        authority: makes the certificates of the hosts that it knows.
        answer: gives what a host, such as `api.example`, answers.
        hosts: that there are.
        is_open: other hosts are reached as they are, and not refused by 502.

    Attributes:
        asked: host and request of each.
        logins: what it was told as `Proxy-Authorization`, in order.
    """

    def __init__(
        self,
        authority: Authority,
        answer: Callable[[str, Asked], Answer],
        hosts: Sequence[str],
        *,
        is_open: bool = False,
    ) -> None:
        self._is_open = is_open
        self._answer = answer
        self._contexts = {host: authority.context_for(host) for host in hosts}
        self.asked: list[tuple[str, Asked]] = []
        self.logins: list[str | None] = []

    @contextmanager
    def open(self) -> Generator[int]:
        """Listen; yields the port."""
        with serving(self._serve) as port:
            yield port

    def _serve(self, connection: socket.socket) -> None:
        asked = read_request(connection)
        if asked is None:
            return
        self.logins.append(asked.headers.get("proxy-authorization"))
        if asked.method != "CONNECT":
            host, _, path = asked.target.removeprefix("http://").partition("/")
            asked.target = f"/{path}"
            self._say(connection, host.partition(":")[0], asked)
            return
        host, _, port = asked.target.rpartition(":")
        if host not in self._contexts and self._is_open:
            _tunnel(connection, host, int(port))
            return
        if host not in self._contexts:
            send(connection, (502, {}, b""))
            return
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with self._contexts[host].wrap_socket(connection, server_side=True) as secure:
            inside = read_request(secure)
            if inside is not None:
                self._say(secure, host, inside)

    def _say(self, connection: socket.socket, host: str, asked: Asked) -> None:
        self.asked.append((host, asked))
        send(connection, self._answer(host, asked) if host in self._contexts else (502, {}, b""))


def _tunnel(connection: socket.socket, host: str, port: int) -> None:
    """Carry bytes to and fro until either side ends."""
    with socket.create_connection((host, port)) as other:
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        back = threading.Thread(target=_carry, args=(other, connection))
        back.start()
        _carry(connection, other)
        back.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(BLOCK):
            target.sendall(block)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
