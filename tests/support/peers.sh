#!/bin/sh
# Puts in place the Debian programs that the tests need beside Rust, as root; else says which are missing.
#
# Postfix and Sendmail cannot both be installed: Sendmail is unpacked into the folder given.
set -eu

sendmail=${1:?usage: peers.sh FOLDER}

missing=
need() {
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}
need postfix postfix
need unbound unbound
need m4 m4
need mandoc mandoc
need groff groff
need openssl openssl
need unshare util-linux
for library in libwrap0 libnsl2 libldap-2.5-0 libsasl2-2; do
    dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q ' installed' || missing="$missing $library"
done
if [ -z "$missing" ] && [ -x "$sendmail/usr/libexec/sendmail/sendmail" ]; then
    exit 0
fi

command -v apt-get >/dev/null || { echo "peers.sh: needed, and no apt-get here to install them:$missing sendmail" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "peers.sh: run as root once to install:$missing sendmail" >&2; exit 1; }

# Nothing that gets installed may start by itself. A policy that is there already is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086
    apt-get install -q -y --no-install-recommends $missing
fi
if [ ! -x "$sendmail/usr/libexec/sendmail/sendmail" ]; then
    rm -rf "$sendmail.new"
    mkdir -p "$sendmail.new/packages"
    (cd "$sendmail.new/packages" && apt-get download -q sendmail-bin sendmail-base sendmail-cf)
    for package in "$sendmail.new/packages/"*.deb; do
        dpkg-deb -x "$package" "$sendmail.new"
    done
    rm -rf "$sendmail"
    mv "$sendmail.new" "$sendmail"
fi
