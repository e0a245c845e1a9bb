#!/usr/bin/env bash
# Runs every test: packages that are light to compile with the race detector, those that carry
# containerd or BuildKit without it. Extra arguments go to go test.
set -uo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS="-trimpath -buildvcs=false"

heavy='github.com/containerd/containerd/v2/client|github.com/containerd/containerd/v2/cmd/containerd/server|github.com/moby/buildkit/client'
packages() { # of all packages, those whose tests do or don't reach a heavy dependency
	go list -test -f '{{if .ForTest}}{{.ForTest}} {{join .Deps " "}}{{end}}' ./... |
		awk -v heavy="($heavy)" -v want="$1" '{is = ($0 ~ heavy) ? "heavy" : "light"; if (seen[$1] != "heavy") seen[$1] = is} END {for (p in seen) if (seen[p] == want) print p}' | sort
}

report=$(mktemp)
trap 'rm -f "$report"' EXIT
CGO_ENABLED=0 go build -o "$report" ./scripts/testreport || exit 1
{
	CGO_ENABLED=1 go test -json -race -timeout 15m "$@" $(packages light)
	CGO_ENABLED=0 go test -json -p 1 -timeout 30m "$@" $(packages heavy)
} 2>&1 | "$report"
