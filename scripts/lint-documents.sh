#!/bin/sh
# Checks the OpenAPI documents and the Kubernetes manifests.
set -eu

cd "$(dirname "$0")/.."
sh scripts/install-python-tools.sh nodejs kubernetes-validate
sh scripts/install-node-tools.sh scripts/redocly
tools=${CARGO_TARGET_DIR:-target}/tools
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
    "$tools/bin/node" "$tools/redocly/node_modules/@redocly/cli/bin/cli.js" \
    lint --config scripts/redocly/redocly.yaml openapi/public.json openapi/admin.json
"$tools/bin/kubernetes-validate" --strict deploy/kubernetes.yaml
