#!/usr/bin/env bash
# Builds the programs that Maru carries inside its binary (the containerd shim, runc, the init that
# reaps) and puts them, compressed, where engine/local/bin embeds them. Does nothing when they are fresh.
set -euo pipefail
cd "$(dirname "$0")/.."

out=engine/local/bin/embedded
work=${MARU_EMBED_WORK:-bin/embed}
mkdir -p "$out" "$work"
export GOFLAGS="-trimpath -buildvcs=false"

exec 9>"$work/lock"
flock 9

# runc starts containers with C code, so it needs a C compiler; libseccomp is linked in when it is there.
tags="netgo osusergo"
if [ -f /usr/include/seccomp.h ] && gcc -print-file-name=libseccomp.a | grep -q /; then
	tags="$tags seccomp"
else
	echo "embed.sh: libseccomp-dev is missing: instances will run without a system call filter" >&2
fi
CGO_ENABLED=1 go build -tags "$tags" -ldflags "-s -w -extldflags -static" -o "$work/runc" github.com/opencontainers/runc
CGO_ENABLED=0 go build -tags "no_grpc" -ldflags "-s -w" -o "$work/containerd-shim-maru" ./cmd/containerd-shim-maru
CGO_ENABLED=0 go build -ldflags "-s -w" -o "$work/maru-init" ./cmd/maru-init

case $tags in
*seccomp*) touch "$out/seccomp" ;;
*) rm -f "$out/seccomp" ;;
esac
CGO_ENABLED=0 go run ./scripts/pack "$out" "$work/containerd-shim-maru" "$work/runc" "$work/maru-init"
