#!/usr/bin/env bash
# Measures Maru on this machine and prints one table. Arguments go to the benchmark program.
set -euo pipefail
cd "$(dirname "$0")/.."
go build -o bin/maru-bench ./test/bench
exec bin/maru-bench "$@"
