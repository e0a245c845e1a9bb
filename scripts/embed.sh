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

# Compiling the system call filter is half of the processor time that a start takes. This runc has the
# default filters ready-made: a copy of it whose seccomp package looks for one first.
mod=go.mod
case $tags in
*seccomp*)
	patched=$PWD/$work/runc-source
	rm -rf "$patched"
	go mod download github.com/opencontainers/runc
	cp -r "$(go list -m -f '{{.Dir}}' github.com/opencontainers/runc)" "$patched"
	chmod -R u+w "$patched"
	seccomp=$patched/libcontainer/seccomp
	rename() { # FILE FROM TO: replaces the one FROM in the file
		[ "$(grep -cF -- "$2" "$1")" = 1 ] || { echo "embed.sh: runc has changed: $1 has not one \"$2\"" >&2; exit 1; }
		sed -i "s/$2/$3/" "$1"
	}
	rename "$seccomp/seccomp_linux.go" 'func InitSeccomp(' 'func Compile('
	rename "$seccomp/patchbpf/enosys_linux.go" 'fd, err := sysSeccompSetFilter(' 'fd, err := Install('
	# It goes through a map, in whatever order: the same sources are to make the same program.
	rename "$seccomp/patchbpf/enosys_linux.go" 'import (' 'import (\n\t"maps"\n\t"slices"'
	rename "$seccomp/patchbpf/enosys_linux.go" 'for auditArch := range lastSyscalls {' 'for _, auditArch := range slices.Sorted(maps.Keys(lastSyscalls)) {'
	rename "$seccomp/patchbpf/enosys_linux.go" 'for auditArch, maxSyscalls := range lastSyscalls {' 'for _, auditArch := range slices.Sorted(maps.Keys(lastSyscalls)) {\n\t\tmaxSyscalls := lastSyscalls[auditArch]'
	cp scripts/runc/prepared_linux.go.txt "$seccomp/prepared_linux.go"
	cp scripts/runc/install_linux.go.txt "$seccomp/patchbpf/install_linux.go"
	printf '//go:build cgo && seccomp\n\npackage seccomp\n\nvar prepared map[string]filter\n' >"$seccomp/filters_linux.go"
	mod=$work/go.mod
	cp go.mod "$mod"
	cp go.sum "$work/go.sum"
	go mod edit -replace "github.com/opencontainers/runc=$patched" "$mod"
	CGO_ENABLED=1 go run -modfile "$mod" -tags "$tags patched" ./scripts/runc/filters "$seccomp/filters_linux.go"
	;;
esac
CGO_ENABLED=1 go build -modfile "$mod" -tags "$tags" -ldflags "-s -w -extldflags -static" -o "$work/runc" github.com/opencontainers/runc
CGO_ENABLED=0 go build -tags "no_grpc" -ldflags "-s -w" -o "$work/containerd-shim-maru" ./cmd/containerd-shim-maru
CGO_ENABLED=0 go build -ldflags "-s -w" -o "$work/maru-init" ./cmd/maru-init

case $tags in
*seccomp*) touch "$out/seccomp" ;;
*) rm -f "$out/seccomp" ;;
esac
CGO_ENABLED=0 go run ./scripts/pack "$out" "$work/containerd-shim-maru" "$work/runc" "$work/maru-init"
