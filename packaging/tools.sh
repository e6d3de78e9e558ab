#!/bin/sh
# Puts in place what makes and tests packages, in the versions of packaging/versions. `packaging/tools.sh test`: what tests them, too.
set -eu
cd "$(dirname "$0")"
. ./versions

# One folder for the four of them: they share dependencies. Quick to build, not quick to run.
for tool in "cargo-auditable $CARGO_AUDITABLE" "cargo-deb $CARGO_DEB" "cargo-generate-rpm $CARGO_GENERATE_RPM" \
    "cargo-cyclonedx $CARGO_CYCLONEDX"; do
    name=${tool% *}
    version=${tool#* }
    if ! cargo install --list | grep -qx "$name v$version:"; then
        env -u RUSTFLAGS CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$(pwd)/../target}/tools" CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
            CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
            cargo install --locked --version "$version" "$name"
    fi
done
[ "${1:-}" = test ] || exit 0

missing=
need() {
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need dpkg-deb dpkg
need gzip gzip
need objcopy binutils
need mmdebstrap mmdebstrap
need lintian lintian
need rpm rpm
need unshare util-linux
need ip iproute2
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || { echo "packaging/tools.sh: needed, and no apt-get here to install them:$missing" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "packaging/tools.sh: run as root once to install:$missing" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing
