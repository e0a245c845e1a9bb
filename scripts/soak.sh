#!/usr/bin/env bash
# The tests that take long, at their full length. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."
export MARU_ROUNDS=${MARU_ROUNDS:-1000} MARU_PASSES=${MARU_PASSES:-3} MARU_EVERY=${MARU_EVERY:-1} MARU_LINES=${MARU_LINES:-4000000} MARU_TIMINGS=1
go test -count 1 -timeout 6h -v "$@" ./test/chaos
go test -count 1 -timeout 1h -v "$@" ./test/load
go test -count 1 -timeout 1h -v -run TestIsolationOfHogs "$@" ./test/end-to-end
