#!/usr/bin/env bash
# Makes the certificates and keys of the door's tests. They are good for a hundred years, but for the one that must not
# be; what they protect is nothing. Run it with OpenSSL 3.
set -euo pipefail
cd "$(dirname "$0")"
key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
key ca
openssl req -x509 -key ca.key -subj "/CN=test authority" -days 36500 -out ca.pem \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
work=$(mktemp -d)
touch "$work/index"
leaf() { # name, subject alternative name, until when
  key "$1"
  openssl req -new -key "$1.key" -subj "/CN=$1" -out "$work/request"
  printf '[ca]\ndefault_ca=it\n[it]\ndatabase=%s/index\nnew_certs_dir=%s\nrand_serial=yes\npolicy=p\ndefault_md=sha256\n[p]\ncommonName=supplied\n' \
    "$work" "$work" >"$work/config"
  printf 'basicConstraints=CA:FALSE\nsubjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$2" >"$work/extensions"
  openssl ca -batch -notext -config "$work/config" -cert ca.pem -keyfile ca.key -in "$work/request" \
    -extfile "$work/extensions" -startdate 20010101000000Z -enddate "$3" -out "$1.pem"
}
leaf right DNS:api.example.com 21260101000000Z
leaf other DNS:other.example.com 21260101000000Z
leaf expired DNS:api.example.com 20020101000000Z
key stranger
openssl req -x509 -key stranger.key -subj "/CN=stranger" -days 36500 -out stranger.pem \
  -addext "basicConstraints=critical,CA:FALSE" -addext "subjectAltName=DNS:api.example.com"
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out account.key
rm -r ca.key "$work"
