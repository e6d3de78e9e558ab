#!/bin/sh
# Puts in place the Debian programs that the tests need beside Rust, as root; else says which are missing.
#
# Postfix and Sendmail cannot both be installed: Sendmail is unpacked into the folder given. So is OpenDMARC, into the folder
# `opendmarc` beside it: its package wants a database. Dovecot's Sieve goes into `sieve`: its package has a server. The folder `moving` gets
# the documents of the programs that people come from.
set -eu

sendmail=${1:?usage: peers.sh FOLDER}
opendmarc=$(dirname "$sendmail")/opendmarc
moving=$(dirname "$sendmail")/moving
sieve=$(dirname "$sendmail")/sieve

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
need opendkim opendkim
need strace strace
need systemd-analyze systemd
need nsenter util-linux
[ -e /usr/lib/python3/dist-packages/yaml/__init__.py ] || missing="$missing python3-yaml"
need promtool prometheus
need chromium chromium
[ -e /usr/lib/python3/dist-packages/dkim/__init__.py ] || missing="$missing python3-dkim"
[ -e /usr/lib/python3/dist-packages/nacl/__init__.py ] || missing="$missing python3-nacl"
[ -e /usr/lib/python3/dist-packages/authres/__init__.py ] || missing="$missing python3-authres"
[ -e /usr/share/perl5/Mail/AuthenticationResults/Parser.pm ] || missing="$missing libmail-authenticationresults-perl"
[ -e /usr/share/perl5/Mail/SpamAssassin/Plugin/AuthRes.pm ] || missing="$missing spamassassin"
for module in Mail/SPF.pm:libmail-spf-perl Mail/DKIM.pm:libmail-dkim-perl Mail/DMARC.pm:libmail-dmarc-perl; do
    [ -e "/usr/share/perl5/${module%%:*}" ] || missing="$missing ${module#*:}"
done
[ -e /usr/lib/python3/dist-packages/spf.py ] || missing="$missing python3-spf"
[ -n "$(find /usr/lib -name libfaketime.so.1 2>/dev/null)" ] || missing="$missing libfaketime"
# libFuzzer is C++.
need c++ g++
for library in libmilter1.0.1 libbsd0 libwrap0 libnsl2 libldap-2.5-0 libsasl2-2; do
    dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q ' installed' || missing="$missing $library"
done
# From crates.io: Debian has no such packages.
if ! cargo fuzz --version >/dev/null 2>&1; then
    cargo install --locked --version 0.13.2 cargo-fuzz
fi
if ! cargo deny --version >/dev/null 2>&1; then
    cargo install --locked --version "${CARGO_DENY:-0.20.2}" cargo-deny
fi
if [ -z "$missing" ] && [ -x "$sendmail/usr/libexec/sendmail/sendmail" ] && [ -x "$opendmarc/usr/sbin/opendmarc" ] &&
    [ -e "$moving/etc/opendkim.conf" ] && [ -x "$sieve/usr/bin/sieve-test" ]; then
    exit 0
fi

command -v apt-get >/dev/null || { echo "peers.sh: needed, and no apt-get here to install them:$missing sendmail opendmarc pyspf-milter" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "peers.sh: run as root once to install:$missing sendmail opendmarc pyspf-milter" >&2; exit 1; }

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
# Unpacks packages into a folder.
unpack() {
    folder=$1
    shift
    rm -rf "$folder.new"
    mkdir -p "$folder.new/packages"
    (cd "$folder.new/packages" && apt-get download -q "$@")
    for package in "$folder.new/packages/"*.deb; do
        dpkg-deb -x "$package" "$folder.new"
    done
    rm -rf "$folder"
    mv "$folder.new" "$folder"
}
if [ ! -x "$sendmail/usr/libexec/sendmail/sendmail" ]; then
    unpack "$sendmail" sendmail-bin sendmail-base sendmail-cf
fi
if [ ! -x "$opendmarc/usr/sbin/opendmarc" ]; then
    unpack "$opendmarc" opendmarc libopendmarc2 libspf2-2
fi
if [ ! -e "$moving/etc/opendkim.conf" ]; then
    unpack "$moving" opendkim opendmarc pyspf-milter postfix-policyd-spf-python
fi
if [ ! -x "$sieve/usr/bin/sieve-test" ]; then
    unpack "$sieve" dovecot-core dovecot-sieve
fi
