#!/usr/bin/env bash
# Validate everything in deploy/ with the tool that will read it. Installs those tools where apt
# and root are at hand; without them it says what was not looked at.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive
bin=.venv/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() { echo "deploy: $1" >&2; failed=1; }

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq >"$work/apt.log" 2>&1
    apt-get install -y -qq --no-install-recommends systemd prometheus nginx-light caddy openssl >>"$work/apt.log" 2>&1
fi

echo "== hadolint"
$bin/hadolint --ignore DL3059 Containerfile || fail "Containerfile"

echo "== compose"
$bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose*.yaml || fail "compose*.yaml"

echo "== kubernetes"
$bin/kubernetes-validate --strict deploy/kubernetes*.yaml || fail "kubernetes*.yaml"

echo "== alert rules"
if command -v promtool >/dev/null; then
    promtool check rules deploy/alerts.yaml || fail alerts.yaml
    promtool test rules tests/deploy/alerts.yaml || fail "alerts.yaml: when they fire"
else
    echo "promtool is not here: alerts.yaml not checked"
fi

echo "== dashboard"
$bin/python - <<'PY' || fail grafana-dashboard.json
import json, pathlib
from prometheus_client import CollectorRegistry  # the names must be ones the service shows
board = json.loads(pathlib.Path("deploy/grafana-dashboard.json").read_text())
text = pathlib.Path("src/scim_matrix/ops/metrics.py").read_text()
import re
used = set(re.findall(r"scim_matrix_(\w+)", json.dumps(board) + pathlib.Path("deploy/alerts.yaml").read_text()))
known = {n.removeprefix("scim_matrix_") for n in re.findall(r'"(scim_matrix_\w+)"', text)}
known |= set(re.findall(r'gauge\(\s*"(\w+)"', text))
base = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in used}
missing = sorted(base - known)
print("metrics used:", len(base), "unknown:", missing)
raise SystemExit(bool(missing))
PY

echo "== proxies"
if command -v caddy >/dev/null; then
    caddy validate --config deploy/Caddyfile --adapter caddyfile >"$work/caddy.log" 2>&1 ||
        { tail -3 "$work/caddy.log"; fail Caddyfile; }
else
    echo "caddy is not here: Caddyfile not checked"
fi
if command -v nginx >/dev/null && command -v openssl >/dev/null; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=scim.example.com \
        -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
    sed "s|/etc/letsencrypt/live/scim.example.com|$work|" deploy/nginx.conf >"$work/site.conf"
    echo "events {} pid $work/nginx.pid; http { include $work/site.conf; }" >"$work/nginx.conf"
    nginx -t -q -c "$work/nginx.conf" || fail nginx.conf
else
    echo "nginx is not here: nginx.conf not checked"
fi

echo "== systemd unit"
if command -v systemd-analyze >/dev/null; then
    cp deploy/scim-matrix.service "$work/"
    sed -i "s|/opt/scim-matrix/bin/scim-matrix|/bin/true|" "$work/scim-matrix.service"
    words=$(systemd-analyze verify "$work/scim-matrix.service" 2>&1 >/dev/null || true)
    [ -z "$words" ] || { echo "$words"; fail "systemd-analyze verify"; }
    systemd-analyze security --offline=true --threshold=15 "$work/scim-matrix.service" |
        tail -1 || fail "systemd-analyze security"
else
    echo "systemd-analyze is not here: scim-matrix.service not checked"
fi

echo "== quadlet"
generator=$(command -v /usr/libexec/podman/quadlet || true)
if [ -z "$generator" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # Podman 5's generator, taken from the next Debian release without installing it.
    mkdir -p "$work/lists/partial" "$work/podman"
    grep -rhE '^deb .* bookworm main' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
        sed 's/bookworm/trixie/' >"$work/trixie.list" || true
    if [ ! -s "$work/trixie.list" ] && ls /etc/apt/sources.list.d/*.sources >/dev/null 2>&1; then
        uri=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources | head -1)
        echo "deb [trusted=yes] $uri trixie main" >"$work/trixie.list"
    fi
    options=(-o "Dir::Etc::sourcelist=$work/trixie.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=")
    if apt-get "${options[@]}" update -qq >"$work/apt.log" 2>&1 &&
        (cd "$work" && apt-get "${options[@]}" download -qq podman >>apt.log 2>&1); then
        dpkg-deb -x "$work"/podman_*.deb "$work/podman"
        generator=$work/podman/usr/libexec/podman/quadlet
    fi
fi
if [ -n "$generator" ] && [ -x "$generator" ]; then
    mkdir "$work/units"
    cp deploy/scim-matrix.container "$work/units/"
    QUADLET_UNIT_DIRS="$work/units" "$generator" -dryrun >"$work/quadlet.out" 2>"$work/quadlet.err" ||
        { cat "$work/quadlet.err"; fail "quadlet"; }
    grep -q "^ExecStart=.*podman run" "$work/quadlet.out" || fail "quadlet made no unit"
    grep -iE "unsupported|error" "$work/quadlet.err" && fail "quadlet"
    echo "quadlet: $(grep -c . "$work/quadlet.out") lines made"
else
    echo "podman 5's quadlet cannot be had here: scim-matrix.container not checked"
fi
exit $failed
