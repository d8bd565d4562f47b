#!/bin/sh
# Generates a client of each API with openapi-python-client: the packages `fullon_admin` and
# `fullon_public` in `generated`.
set -eu
cd "$(dirname "$0")"
rm -rf generated
mkdir generated
for api in admin public; do
    openapi-python-client generate --path ../../openapi/$api.json --meta none --fail-on-warning \
        --output-path generated/fullon_$api
done
