#!/usr/bin/env bash
# Runs every test: packages that are light to compile with the race detector; then, two at a time
# and without it, those that carry containerd or BuildKit, run real containers, or want much of the machine; then the
# one that measures under load, by itself. Extra arguments go to go test. "make check" has vetted them. Results of before count as long
# as neither the code nor the files that a test looked at have changed, bin/maru among them.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS="-trimpath -buildvcs=false"

quiet=github.com/marucloud/maru/test/load # its times are those of a machine with nothing else to do
alone='/test/|/internal/supervisor$'
heavy='github.com/containerd/containerd/v2/client|github.com/containerd/containerd/v2/cmd/containerd/server|github.com/moby/buildkit/client'
kinds=$(go list -test -f '{{if .ForTest}}{{.ForTest}} {{join .Deps " "}}{{end}}' ./... |
	awk -v heavy="($heavy)" -v alone="($alone)" '
		{kind = $1 ~ alone || $0 ~ heavy ? 2 : 1; if (kind > kinds[$1]) kinds[$1] = kind}
		END {for (p in kinds) print kinds[p], p}' | sort)
light=$(sed -n 's/^1 //p' <<<"$kinds")
heavy=$(sed -n 's/^2 //p' <<<"$kinds" | grep -v "$quiet" | sort -r) # the longest don't come last, alone
[ -n "$light" ] && [ -n "$heavy" ] || { echo "test.sh: found no packages to test" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -o "$work/report" ./scripts/testreport
{
	# shellcheck disable=SC2086 # lists of packages
	CGO_ENABLED=1 go test -json -vet=off -race -timeout 15m "$@" $light || true
	# shellcheck disable=SC2086
	CGO_ENABLED=0 go test -json -vet=off -p 2 -timeout 30m "$@" $heavy || true
	CGO_ENABLED=0 go test -json -vet=off -timeout 30m "$@" "$quiet" || true
} 2>&1 | "$work/report" -failed "$work/failed" && exit 0

# On a small, shared machine a time-out may say more of the machine than of the code: what failed is
# tried once more, alone, and has to pass then. What does not is a failure, and so is more than a few.
count=$(wc -l <"$work/failed")
if [ "$count" -eq 0 ] || [ "$count" -gt 6 ] || grep -qv ' Test[A-Za-z0-9_]*$' "$work/failed"; then
	exit 1
fi
echo "TRIED ONCE MORE, because they failed the first time:"
cat "$work/failed"
while read -r package test; do
	cgo=0 race=
	if grep -qx "$package" <<<"$light"; then cgo=1 race=-race; fi
	CGO_ENABLED=$cgo go test -json $race -count 1 -timeout 30m -run "^$test\$" "$package" </dev/null || true
done <"$work/failed" 2>&1 | "$work/report"
