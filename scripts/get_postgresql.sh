#!/usr/bin/env bash
# Install PostgreSQL for the tests that run over it where apt and root are at hand and it is not there yet.
set -euo pipefail
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null
    apt-get install -y -qq --no-install-recommends postgresql >/dev/null
else
    echo "POSTGRESQL IS NOT HERE, and cannot be installed without root: the service is tried over SQLite only" >&2
fi
