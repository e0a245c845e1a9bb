#!/usr/bin/env bash
# Fuzzes each fuzz target in turn, FUZZ_SECONDS (600) in all.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=$(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's#^\./(.*)/[^/]+:func (Fuzz.*)#\1 \2#' | sort)
count=$(wc -l <<<"$targets")
each=$((${FUZZ_SECONDS:-600} / count + 1))
while read -r folder target; do
	echo "== $folder $target for ${each}s"
	go test -C "$folder" -run "^$" -fuzz "^$target\$" -fuzztime "${each}s" .
done <<<"$targets"
