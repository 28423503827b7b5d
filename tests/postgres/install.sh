#!/bin/sh
# Makes sure that PostgreSQL's server binaries are on this machine; says so clearly when they cannot be had.
set -eu
if command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    exit 0
fi
fail() {
    echo "PostgreSQL's server binaries (initdb, postgres) are not installed, and $1." >&2
    echo "Install them (Debian, Ubuntu: apt-get install postgresql; elsewhere: see postgresql.org) or put a folder that" >&2
    echo "holds them on the PATH, then run make test-postgres again. No running service is needed." >&2
    exit 1
}
command -v apt-get >/dev/null 2>&1 || fail "there is no apt-get to install them with"
root=""
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true >/dev/null 2>&1 || fail "installing them needs root or sudo without a password"
    root="sudo -n"
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing Debian's package postgresql"
{ $root apt-get -qq update && $root apt-get -qq install -y --no-install-recommends postgresql; } >/dev/null ||
    fail "apt-get could not install them (its messages are above)"
