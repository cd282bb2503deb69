"""Docker images under the names that flows use, built here from Debian's packages, without any image registry.

`python tools/docker_images.py NAME…` builds those, without a name all. What is built stays in the engine: an image
whose label says that it was made by the same recipe is not built again. An image of the same name that somebody else
put there is left as it is. What containers need to reach package registries (certificates, proxies, indexes) is taken
from this machine when an image is built.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.docker_engine import EngineError, ensure_engine, locked

if TYPE_CHECKING:
    from docker import DockerClient

TIMEOUT_S = 600
LABEL = "tercel.recipe"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_INDEXES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "NPM_CONFIG_REGISTRY")
_LINES_SHOWN = 25


class ImageError(RuntimeError):
    """An image cannot be built, and why."""


@dataclass(frozen=True, slots=True)
class Image:
    """How an image is made.

    Attributes:
        names: what it is known as; the first one is what other images are built on.
        steps: the lines of its Dockerfile after `FROM`.
        base: the first name of the image it is built on; empty for one made from nothing.
        files: puts the files that the steps take into a folder.
        online: containers and steps are told how this machine reaches package registries.
    """

    names: tuple[str, ...]
    steps: tuple[str, ...]
    base: str = ""
    files: Callable[[Path], None] = field(default=lambda _folder: None)
    online: bool = False


def ensure_image(name: str) -> str:
    """See to it that the engine has an image, and give its full name back.

    Raises:
        KeyError: no image of that name can be built here.
        EngineError: there is no engine.
        ImageError: building failed.
    """
    import docker

    full = name if ":" in name else f"{name}:latest"
    image = _images()[full]
    ensure_engine()
    with closing(docker.from_env(timeout=TIMEOUT_S)) as client:
        ensure(client, image)
    return full


def ensure(client: DockerClient, image: Image) -> None:
    """See to it that the engine has *image*, under each of its names that is not the name of somebody else's image."""
    from docker.errors import APIError

    made_by = recipe(image)
    if {_made_by(client, name) for name in image.names} <= {made_by, ""}:
        return
    if image.base:
        ensure(client, _images()[image.base])
    with locked("image-" + image.names[0].replace("/", "-").replace(":", "-")):
        same = client.images.list(filters={"label": f"{LABEL}={made_by}"})
        image_id = min(same, key=lambda found: found.attrs["Created"]).id if same else _build(client, image, made_by)
        for name in image.names:
            found = _made_by(client, name)
            if found not in {made_by, ""}:
                outdated = None if found is None else client.images.get(name).id
                client.api.tag(image_id, *name.rsplit(":", 1))
                if outdated is not None:
                    with suppress(APIError):  # it is in use, or still has another name
                        client.images.remove(outdated)


def recipe(image: Image) -> str:
    """What tells images apart that are made in different ways, or for another machine."""
    base = recipe(_images()[image.base]) if image.base else _ground(image)
    text = repr((base, image.steps, _settings() if image.online else ()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _ground(image: Image) -> str:
    ways = [inspect.getsource(way) for way in (image.files, _pack)]
    return repr((_release(), platform.machine(), _machine_files(), _DEBOOTSTRAP, _DPKG, ways))


def _made_by(client: DockerClient, name: str) -> str | None:
    """The recipe of the image of that name: empty for somebody else's image, None if there is no such image."""
    from docker.errors import ImageNotFound

    try:
        return client.images.get(name).labels.get(LABEL, "")
    except ImageNotFound:
        return None


def _build(client: DockerClient, image: Image, made_by: str) -> str:
    """Its id."""
    lines = [f"FROM {image.base or 'scratch'}"]
    if image.online:
        lines += [f'ENV {name}="{value}"' for name, value in _settings().items()]
    lines += image.steps
    with tempfile.TemporaryDirectory(prefix="tercel-image-") as folder, tempfile.TemporaryFile() as context:
        image.files(Path(folder))
        Path(folder, "Dockerfile").write_text("\n".join(lines) + "\n")
        with tarfile.open(fileobj=context, mode="w") as tar:
            tar.add(folder, ".")
        context.seek(0)
        steps = client.api.build(
            fileobj=context,
            custom_context=True,
            labels={LABEL: made_by},
            network_mode="host",
            rm=True,
            forcerm=True,
            decode=True,
        )
        said: list[str] = []
        image_id = ""
        for step in steps:
            image_id = step.get("aux", {}).get("ID", image_id)
            said += [text for key in ("stream", "error") if (text := step.get(key, "").rstrip())]
            if "error" in step:
                raise ImageError(f"{image.names[0]} cannot be built:\n" + "\n".join(said[-_LINES_SHOWN:]))
    return image_id


def _run(*command: str, cwd: Path | None = None) -> str:
    """What a command prints.

    Raises:
        ImageError: it failed, or is not there.
    """
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ImageError(f"{command[0]} is not installed") from None
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()[-_LINES_SHOWN:]
        raise ImageError(f"{command[0]} ended with {done.returncode}:\n" + "\n".join(said))
    return done.stdout


# What this machine has.


@cache
def _release() -> str:
    """The code name of its Debian."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")


def _mirror() -> str:
    """Where its apt gets Debian's main part from."""
    targets = _run(
        "apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"
    )
    for target in targets.splitlines():
        release, component, uri = target.split()
        if (release, component) == (_release(), "main"):
            return uri
    raise ImageError(f"apt knows no source of {_release()}; run apt-get update")


@cache
def _machine_files() -> Mapping[str, bytes]:
    """Files by which programs in containers reach what this machine reaches, by their paths in the container."""
    found: dict[str, bytes] = {}
    bundles = [os.environ.get(name, "") for name in _CERTIFICATE_VARIABLES] + [CERTIFICATES]
    if bundle := next((path for path in bundles if os.path.isfile(path)), None):
        found[CERTIFICATES] = Path(bundle).read_bytes()
    if os.path.isfile("/etc/pip.conf"):
        found["/etc/pip.conf"] = Path("/etc/pip.conf").read_bytes()
    if shutil.which("apt-config"):
        kept = ("Acquire::Check-", "Acquire::http", "Acquire::https")
        apt = [line for line in _run("apt-config", "dump").splitlines() if line.startswith(kept)]
        found["/etc/apt/apt.conf.d/99machine"] = "".join(f"{line}\n" for line in apt).encode()
    return found


@cache
def _settings() -> Mapping[str, str]:
    """Environment variables for the same purpose."""
    found = {name: os.environ[name] for name in (*_PROXIES, *_INDEXES) if os.environ.get(name)}
    if CERTIFICATES in _machine_files():
        found |= {name: CERTIFICATES for name in _CERTIFICATE_VARIABLES if os.environ.get(name)} | {
            "PIP_CERT": CERTIFICATES
        }
    return found


# What images are made of.

# In memory, where it can be mounted, this takes half the time.
_DEBOOTSTRAP = """
mount -t tmpfs -o mode=755 tercel "$1" || :
debootstrap --variant=minbase --include=ca-certificates "$3" "$1" "$4"
cd "$1"
rm -rf var/cache/apt/archives/*.deb var/cache/apt/*.bin var/lib/apt/lists/* var/log/*.log
rm -rf usr/share/doc/* usr/share/man/* usr/share/locale/* etc/resolv.conf etc/hostname
tar -cf "$2" .
"""
_DPKG = """force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
"""


def _debian(folder: Path) -> None:
    if os.geteuid() != 0:
        raise ImageError("only root can build an image by debootstrap")
    _run("debootstrap", "--version")
    root = folder / "tree"
    root.mkdir()
    packed = os.fspath(folder / "root.tar")
    _run("unshare", "--mount", "sh", "-euc", _DEBOOTSTRAP, "sh", os.fspath(root), packed, _release(), _mirror())
    shutil.rmtree(root)
    for path, content in {**_machine_files(), "/etc/dpkg/dpkg.cfg.d/tercel": _DPKG.encode()}.items():
        file = folder / "machine" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _busybox(folder: Path) -> None:
    program = _busybox_program(folder)
    applets = [name for name in _run(os.fspath(program), "--list").split() if name != "busybox"]
    _pack(
        folder / "root.tar",
        program,
        {"bin/busybox": dict.fromkeys((f"bin/{name}" for name in applets), tarfile.SYMTYPE)},
    )


def _no_shell(folder: Path) -> None:
    others: dict[str, bytes] = dict.fromkeys(
        ("bin/cat", "bin/env", "bin/false", "bin/sleep", "bin/true"), tarfile.LNKTYPE
    )
    _pack(folder / "root.tar", _busybox_program(folder), {"bin/echo": others})


def _busybox_program(folder: Path) -> Path:
    """BusyBox without any library, out of Debian's package, which need not be installed for this."""
    _run("apt-get", "-o", "APT::Sandbox::User=root", "download", "busybox-static", cwd=folder)
    package = next(folder.glob("busybox-static*.deb"))
    _run("dpkg-deb", "-x", os.fspath(package), os.fspath(folder / "busybox"))
    package.unlink()
    return next(path for path in (folder / "busybox").rglob("bin/busybox") if path.is_file())


def _pack(archive: Path, program: Path, links: Mapping[str, Mapping[str, bytes]]) -> None:
    """A tree with one program, other names of it, and the folders and files that every system has."""
    with tarfile.open(archive, "w") as tar:
        for name, mode in {"bin": 0o755, "etc": 0o755, "home": 0o755, "root": 0o700, "tmp": 0o1777}.items():
            _add(tar, name, mode, kind=tarfile.DIRTYPE)
        _add(tar, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        _add(tar, "etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")
        for path, others in links.items():
            _add(tar, path, 0o755, program.read_bytes())
            for other, kind in others.items():
                target = os.path.basename(path) if kind == tarfile.SYMTYPE else path
                _add(tar, other, 0o755, kind=kind, target=target)


def _add(
    tar: tarfile.TarFile, name: str, mode: int, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, target: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.type, member.linkname, member.size = mode, kind, target, len(content)
    tar.addfile(member, io.BytesIO(content))


def _install(*packages: str) -> str:
    return (
        "RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "
        + " ".join(packages)
        + " && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin"
    )


def _program(path: str, *lines: str) -> str:
    script = " ".join(shlex.quote(line) for line in ("#!/bin/sh", *lines))
    return f"RUN printf '%s\\n' {script} > {path} && chmod 755 {path}"


@cache
def _images() -> Mapping[str, Image]:
    """Every image, by each of its names."""
    images = [
        Image(
            names=("tercel-test/debian:latest", "debian:latest", "ubuntu:latest", "perl:latest"),
            files=_debian,
            steps=("ADD root.tar /", "COPY machine/ /", 'CMD ["bash"]'),
        ),
        Image(
            names=(
                "tercel-test/python:latest",
                "python:latest",
                "python:slim",
                "python:3.11-slim",
                "python:3.13-slim",
            ),
            base="tercel-test/debian:latest",
            online=True,
            steps=(
                "ENV LANG=C.UTF-8",
                _install("python3", "python3-pip", "python3-venv", "python-is-python3")
                + " && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED",
                'CMD ["python3"]',
            ),
        ),
        Image(
            names=(
                "tercel-test/pydata:latest",
                "ghcr.io/kestra-io/pydata:latest",
                "ghcr.io/kestra-io/kestrapy:latest",
                "annageller/kestra:latest",
            ),
            base="tercel-test/python:latest",
            steps=("RUN pip install -q --no-cache-dir pandas pyarrow requests kestra faker",),
        ),
        Image(
            names=("tercel-test/r:latest", "r-base:latest", "ghcr.io/kestra-io/rdata:latest"),
            base="tercel-test/debian:latest",
            online=True,
            steps=("ENV LANG=C.UTF-8", _install("r-base-core", "r-cran-dplyr"), 'CMD ["R"]'),
        ),
        Image(
            names=("tercel-test/node:latest", "node:latest"),
            base="tercel-test/debian:latest",
            online=True,
            steps=(
                "ENV LANG=C.UTF-8",
                _install("nodejs", "npm"),
                _program("/usr/local/bin/entrypoint", 'exec "$@"'),
                'ENTRYPOINT ["entrypoint"]',
                'CMD ["node"]',
            ),
        ),
        Image(
            names=("tercel-test/rust:latest", "ghcr.io/kestra-io/rust:latest"),
            base="tercel-test/debian:latest",
            steps=(_program("/usr/local/bin/etl", r"printf 'id,total\n1,10\n2,32\n' > totals.csv"),),
        ),
        Image(
            names=("tercel-test/busybox:latest", "busybox:latest"),
            files=_busybox,
            steps=("ADD root.tar /", "ENV PATH=/bin", 'CMD ["sh"]'),
        ),
        Image(
            names=("tercel-test/user:latest",),
            base="tercel-test/busybox:latest",
            steps=(
                "RUN echo worker:x:1234:1234::/home/worker:/bin/sh >> /etc/passwd && echo worker:x:1234: >> /etc/group"
                " && mkdir -m 700 /home/worker && chown worker:worker /home/worker",
                "USER worker",
                "WORKDIR /home/worker",
            ),
        ),
        Image(
            names=("tercel-test/entrypoint:latest",),
            base="tercel-test/busybox:latest",
            steps=('ENTRYPOINT ["echo", "entrypoint:"]', 'CMD ["nothing"]'),
        ),
        Image(
            names=("tercel-test/static:latest",),
            files=_no_shell,
            steps=("ADD root.tar /", "ENV PATH=/bin", 'CMD ["echo", "no shell here"]'),
        ),
    ]
    return {name: image for image in images for name in image.names}


def main() -> None:
    """Build what the command line names."""
    try:
        for wanted in sys.argv[1:] or _images():
            print(ensure_image(wanted), flush=True)
    except KeyError as error:
        sys.exit(f"There is no recipe for {error}. There are recipes for:\n" + "\n".join(_images()))
    except (EngineError, ImageError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
