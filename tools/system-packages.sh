#!/bin/sh
# Installs what the tests need from Debian, where root has apt-get. What cannot be had is named in one line;
# the tests that need it are skipped (with CI=true they fail instead).
set -u
PATH="$PATH:/usr/sbin:/sbin"
missing=""
want() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
want git git
want sshd openssh-server
want ssh-keygen openssh-client
want curl curl
want jq jq
want zstd zstd
want dash dash
want bash bash
want Rscript r-base-core
want perl perl
want ruby ruby
want php php-cli
want lua lua5.4
want node nodejs
want npm npm
want setfattr attr
want mkfs.xfs xfsprogs
want dockerd docker.io # a client may be there without it
want podman podman
want docker-registry docker-registry
want debootstrap debootstrap
# Debian keeps the server's programs out of the path.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || want initdb postgresql
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed, tests that need them are skipped:$missing"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update >/dev/null 2>&1
for package in $missing; do
    apt-get -qq install -y --no-install-recommends "$package" >/dev/null 2>&1 ||
        echo "could not install $package; tests that need it are skipped"
done
