#!/usr/bin/env bash
# Install PostgreSQL for the tests that run over it where apt and root are at hand and it is not there yet.
set -euo pipefail
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null && exit 0
cure="install a server, 14 to 17, as Debian's package postgresql does (/usr/lib/postgresql/*/bin/initdb)"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends postgresql >/dev/null ||
        { echo "POSTGRESQL IS NOT HERE, and apt-get cannot install it: $cure" >&2; exit 1; }
else
    echo "POSTGRESQL IS NOT HERE, and cannot be installed without root and apt-get: the service is tried over SQLite only. For the rest $cure" >&2
fi
