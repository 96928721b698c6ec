#!/usr/bin/env bash
# Install Chromium for the console's tests where apt and root are at hand and it is not there yet.
set -euo pipefail
command -v chromium >/dev/null || command -v chromium-browser >/dev/null && exit 0
cure="install chromium, as Debian's package of that name does, so that it is in PATH"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends chromium >/dev/null ||
        { echo "CHROMIUM IS NOT HERE, and apt-get cannot install it: $cure" >&2; exit 1; }
else
    echo "CHROMIUM IS NOT HERE, and cannot be installed without root and apt-get: the console is not tried in a browser. For that $cure" >&2
fi
