#!/bin/sh
# Puts in place, as root, the milters that `make bench-peers` compares, beside those of `peers.sh`: rspamd and what pyspf-milter needs from
# Debian, and the earlier spf-milter from crates.io, which is unpacked, built and kept in FOLDER/spf-milter-0.7.
set -eu

folder=${1:?usage: bench-peers.sh FOLDER}
missing=
command -v rspamd >/dev/null || missing="$missing rspamd"
[ -e /usr/lib/python3/dist-packages/Milter/__init__.py ] || missing="$missing python3-milter"
[ -e /usr/lib/python3/dist-packages/spf_engine/__init__.py ] || missing="$missing python3-spf-engine"
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || { echo "bench-peers.sh: run as root once to install:$missing" >&2; exit 1; }
    # Nothing that gets installed may start by itself. A policy that is there already is left alone.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -q
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi
# Its own list of versions no longer builds with a current Rust, so that it gets the latest of what it depends on.
if [ ! -x "$folder/spf-milter-0.7/bin/spf-milter" ]; then
    (cd / && cargo install --version 0.7.0-alpha.1 --root "$folder/spf-milter-0.7" spf-milter)
fi
