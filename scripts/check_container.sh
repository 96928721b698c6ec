#!/usr/bin/env bash
# Build the image on a base made here, start it as deploy/ does, probe it, look what is in it.
# Installs buildah and podman where apt and root are at hand; elsewhere it says that it did nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive
if ! { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } && ! command -v podman >/dev/null; then
    echo "SKIPPED: no podman here, and no way to install it" >&2
    exit 0
fi
work=$(mktemp -d)
name=scim-matrix-check-$$
cleanup() {
    podman rm -f "$name" >/dev/null 2>&1 || true
    podman rmi -f "$name" >/dev/null 2>&1 || true
    podman volume rm -f "$name" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq >"$work/apt.log" 2>&1
    apt-get install -y -qq --no-install-recommends podman buildah runc debootstrap >>"$work/apt.log" 2>&1 ||
        { tail -5 "$work/apt.log"; exit 1; }
fi
cat >"$work/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
export CONTAINERS_CONF=$work/containers.conf
base=localhost/scim-matrix-check-base
if ! podman image exists "$base"; then
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
        bookworm "$work/root" >"$work/debootstrap.log" 2>&1 || { tail -5 "$work/debootstrap.log"; exit 1; }
    tar -C "$work/root" -c . | podman import - "$base" >/dev/null 2>&1
fi
# The package index that pip uses here, if it is another one than usual.
settings=()
for variable in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_TRUSTED_HOST PIP_CERT; do
    [ -z "${!variable:-}" ] || settings+=(--env "$variable=${!variable}")
done
# And the authorities that this machine trusts.
[ ! -d /etc/ssl/certs ] || settings+=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
for file in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
    [ ! -f "$file" ] || settings+=(--volume "$file:/etc/pip.conf:ro")
done
echo "== build"
podman build --pull=never --isolation=chroot --network=host --build-arg "PYTHON_IMAGE=$base" \
    --format docker ${settings[@]+"${settings[@]}"} --tag "$name" . >"$work/build.log" 2>&1 ||
    { tail -30 "$work/build.log"; exit 1; }

echo "== run, read-only, without capabilities, not as root"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# The secrets as compose mounts them: files with the owner and mode that they have outside.
chmod 755 "$work"
for secret in webhook_secret matrix_admin_token; do
    printf 'a-secret-for-this-check' >"$work/$secret"
    chmod 0600 "$work/$secret"
done
settings_of_run=(--read-only --cap-drop=all --security-opt no-new-privileges
    --volume "$name:/data" --volume "$work/webhook_secret:/run/secrets/webhook_secret:ro"
    --volume "$work/matrix_admin_token:/run/secrets/matrix_admin_token:ro"
    --env LISTEN_HOST=127.0.0.1 --env "LISTEN_PORT=$port"
    --env WEBHOOK_SECRET_FILE=/run/secrets/webhook_secret --env MATRIX_URL=http://127.0.0.1:9
    --env MATRIX_SERVER_NAME=example.com --env MATRIX_ADMIN_USER_ID=@bot:example.com
    --env MATRIX_ADMIN_TOKEN_FILE=/run/secrets/matrix_admin_token --env IDP_NAME=oidc-x)
words=$(podman run --rm "${settings_of_run[@]}" "$name" check 2>&1 || true)
grep -q "may not be read by user 10001" <<<"$words" || { echo "$words"; exit 1; }
echo "a secret that is root's alone: said whose it must be"
for secret in webhook_secret matrix_admin_token; do
    chown 10001 "$work/$secret" && chmod 0400 "$work/$secret"
done
words=$(podman run --rm "${settings_of_run[@]}" "$name" check 2>&1 || true)
grep -q "inside a container is the container itself" <<<"$words" || { echo "$words"; exit 1; }
echo "a loopback homeserver: said whose address that is"
start() {
    podman run --detach --name "$name" "${settings_of_run[@]}" "$name" >/dev/null
    for _ in $(seq 100); do
        if podman exec "$name" scim-matrix-health >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    podman logs "$name"
    exit 1
}
start
echo "healthz from inside: $(podman exec "$name" scim-matrix-health)"
podman healthcheck run "$name"
test "$(podman exec "$name" id -u)" = 10001
answer=$(python3 - "$port" <<'PY'
import sys, urllib.request
request = urllib.request.Request(
    f"http://127.0.0.1:{sys.argv[1]}/scim/v2/Users",
    data=b'{"userName": "ann"}',
    headers={"Authorization": "Bearer a-secret-for-this-check", "Content-Type": "application/scim+json"},
)
print(urllib.request.urlopen(request).status)
PY
)
test "$answer" = 201
begun=$(date +%s)
podman stop --time 15 "$name" >/dev/null
status=$(podman inspect --format '{{.State.ExitCode}}' "$name")
echo "stopped with status $status after $(($(date +%s) - begun)) s"
test "$status" = 0
podman rm "$name" >/dev/null
start
echo "the volume keeps what was stored: $(podman exec "$name" scim-matrix users --json | grep -c '"ann"') user"

echo "== what is in it"
root=$(podman mount "$name")
for found in $(find "$root/opt/scim-matrix" \( -path '*/scim_matrix/*test*' -o -name pip -o -name setuptools -o -name wheel \
    -o -name ruff -o -name synapse -o -name pytest \) -prune); do
    echo "must not be in the image: ${found#"$root"}"
    exit 1
done
if podman image inspect --format '{{.Config.Env}} {{.History}}' "$name" |
    grep -E '(SECRET|TOKEN|PASSWORD)[A-Z_]*='; then
    echo "must not be in the image: a secret"
    exit 1
fi
test ! -e "$root/usr/bin/gcc"
podman unmount "$name" >/dev/null
du -sh "$root/opt/scim-matrix" 2>/dev/null | cut -f1 || true
echo "the container is as it should be"
