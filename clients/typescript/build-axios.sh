#!/bin/sh
# Generates a client of each API with openapi-generator for axios, and compiles `operate-axios`.
set -eu
cd "$(dirname "$0")"
rm -rf generated-axios
for api in admin public; do
    openapi-generator-cli generate -g typescript-axios -i ../../openapi/$api.json -o generated-axios/$api \
        --additional-properties importFileExtension=.js
done
node_modules/.bin/tsc --project tsconfig.axios.json
