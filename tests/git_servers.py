"""Git over ssh: a real sshd on a loopback port, with keys and settings of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.homes import until
from tests.tools import need, unavailable

_SETTINGS = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserEnvironment no
LogLevel ERROR
KexAlgorithms curve25519-sha256
"""


class SshServer(NamedTuple):
    """Where the server is, and who may use it.

    Attributes:
        address: `ssh://user@host:port`, to which an absolute path is added.
        private_key: PEM text of the key that is let in.
        stranger: that of another key.
        passphrase: of the private key; "" for none.
    """

    address: str
    private_key: str
    stranger: str
    passphrase: str


@contextmanager
def ssh_server(folder: Path, passphrase: str = "") -> Iterator[SshServer]:
    """Serve all repositories of this machine by ssh; *folder*, which must not exist, is for its files."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if sshd is None:
        unavailable("sshd (Debian package openssh-server)")
    need("ssh-keygen", "openssh-client")
    folder.mkdir(mode=0o700)
    for name, secret in (("host_key", ""), ("key", passphrase), ("stranger", "")):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-a", "1", "-N", secret, "-C", "test", "-f", str(folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (folder / "authorized_keys").write_bytes((folder / "key.pub").read_bytes())
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd wants it, and it is empty
    process, port = _started(sshd, folder)
    try:
        yield SshServer(
            f"ssh://{pwd.getpwuid(os.geteuid()).pw_name}@127.0.0.1:{port}",
            (folder / "key").read_text(),
            (folder / "stranger").read_text(),
            passphrase,
        )
    finally:
        process.terminate()
        process.wait()


def _started(sshd: str, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """sshd on a free port; another one where somebody took it in between."""
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        (folder / "sshd_config").write_text(_SETTINGS.format(port=port, folder=folder))
        with (folder / "log").open("wb") as log:
            command = [sshd, "-D", "-e", "-f", str(folder / "sshd_config")]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda process=process, port=port: process.poll() is not None or _listens(port))
        if process.poll() is None:
            return process, port
    raise AssertionError(f"sshd does not start: {(folder / 'log').read_text()}")


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False
