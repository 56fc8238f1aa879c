#!/bin/sh
# Makes the lab's RSA keys anew (see README.md). Run it here; every lab trust anchor changes.
set -eu
cd "$(dirname "$0")"
for name in root-ksk root-zsk org rsasha256.com rsasha512.com dualalg.com; do
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$name.pem"
done
