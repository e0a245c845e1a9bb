#!/usr/bin/env bash
# Runs every test: packages that are light to compile with the race detector; then, one after the other
# and without it, those that carry containerd or BuildKit and those that want the machine for
# themselves. Extra arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS="-trimpath -buildvcs=false"

alone='/test/|/internal/supervisor$'
heavy='github.com/containerd/containerd/v2/client|github.com/containerd/containerd/v2/cmd/containerd/server|github.com/moby/buildkit/client'
all=$(go list -test -f '{{if .ForTest}}{{.ForTest}} {{join .Deps " "}}{{end}}' ./...)
light=$(awk -v heavy="($heavy)" -v alone="($alone)" '{is = ($0 ~ heavy || $1 ~ alone); if (is || !($1 in seen)) seen[$1] = is} END {for (p in seen) if (!seen[p]) print p}' <<<"$all" | sort)
heavy=$(awk '{print $1}' <<<"$all" | sort -u | comm -23 - <(echo "$light"))
[ -n "$light" ] && [ -n "$heavy" ] || { echo "test.sh: found no packages to test" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -o "$work/report" ./scripts/testreport
{
	# shellcheck disable=SC2086 # lists of packages
	CGO_ENABLED=1 go test -json -race -timeout 15m "$@" $light || true
	# shellcheck disable=SC2086
	CGO_ENABLED=0 go test -json -p 1 -timeout 30m "$@" $heavy || true
} 2>&1 | "$work/report"
