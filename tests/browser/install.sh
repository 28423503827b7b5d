#!/bin/sh
# Makes sure that a Chromium for the tests of the console is on this machine; says so clearly when none can be had.
set -eu
if [ -n "${MEMEDIT_CHROMIUM:-}" ] || command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1; then
    exit 0
fi
fail() {
    echo "Chromium is not installed, and $1." >&2
    echo "Install it (Debian: apt-get install chromium) or set MEMEDIT_CHROMIUM to the path of one, then run this again." >&2
    exit 1
}
command -v apt-get >/dev/null 2>&1 || fail "there is no apt-get to install it with"
root=""
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true >/dev/null 2>&1 || fail "installing it needs root or sudo without a password"
    root="sudo -n"
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing Debian's package chromium"
{ $root apt-get -qq update && $root apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null ||
    fail "apt-get could not install it (its messages are above)"
