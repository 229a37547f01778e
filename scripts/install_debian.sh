#!/usr/bin/env bash
# What the tests need of the system and pip cannot bring: Chromium, for the tests of the pages; Prometheus (with promtool) and Alertmanager, for
# the rules and alerts; make and python3-venv where they are missing.
# Does nothing where all is there. Where it may not or cannot install, it says so loudly and the tests that need it skip by name.
set -euo pipefail

missing=()
command -v make >/dev/null || missing+=(make)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
[ -x /usr/bin/chromium ] || missing+=(chromium)
command -v promtool >/dev/null || missing+=(prometheus)
command -v prometheus-alertmanager >/dev/null || missing+=(prometheus-alertmanager)
if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi

loudly() {
    {
        echo "********************************************************************************"
        echo "NOT INSTALLED: ${missing[*]}"
        echo "$1"
        echo "Without chromium the tests of the pages, and without prometheus those of rules and alerts, are SKIPPED, not passed."
        echo "By hand, on Debian: apt-get install ${missing[*]}"
        echo "********************************************************************************"
    } >&2
    exit 0
}

[ -e /etc/debian_version ] || loudly "This is not Debian, so this script does not know how."
[ "$(id -u)" -eq 0 ] || loudly "This needs root, and you are $(id -un)."
command -v apt-get >/dev/null || loudly "There is no apt-get."

echo "installing with apt-get: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || loudly "apt-get update failed."
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || loudly "apt-get install failed."
