#!/usr/bin/env bash
# Install PostgreSQL and PgBouncer for the tests that run over them where apt and root are at hand and they are not there yet.
set -euo pipefail
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null && [ -x /usr/sbin/pgbouncer ] && exit 0
cure="install a server, 14 to 18, as Debian's package postgresql does (/usr/lib/postgresql/*/bin/initdb), and pgbouncer"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends postgresql pgbouncer >/dev/null ||
        { echo "POSTGRESQL IS NOT HERE, and apt-get cannot install it: $cure" >&2; exit 1; }
else
    echo "POSTGRESQL OR PGBOUNCER IS NOT HERE, and cannot be installed without root and apt-get: the service is tried over SQLite only, or behind no pooler. For the rest $cure" >&2
fi
