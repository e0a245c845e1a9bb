#!/bin/sh
# Makes the Go code of the API from api/maru/v1. With "check" it changes nothing, and fails when the
# committed code is not what would be made.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"

buf() { (cd "$root" && go tool -modfile=tools/go.mod buf "$@"); }

case "${1:-}" in
"")
	buf lint api
	find api/gen -name "*.pb.go" -delete -o -name "*.connect.go" -delete
	buf generate api --template api/buf.gen.yaml -o api
	;;
check)
	fresh=$(mktemp -d)
	trap 'rm -rf "$fresh"' EXIT
	buf lint api
	buf generate api --template api/buf.gen.yaml -o "$fresh"
	diff -r -x doc.go "$fresh/gen" api/gen || {
		echo "api/gen is stale: run scripts/generate.sh" >&2
		exit 1
	}
	;;
*)
	echo "usage: scripts/generate.sh [check]" >&2
	exit 2
	;;
esac
