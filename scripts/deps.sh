#!/usr/bin/env bash
# Installs what building and testing Maru needs and this machine lacks. With an argument it takes only
# that group: build (default), demo, test, vm, bench.
set -euo pipefail

group=${1:-build}
declare -A packages=(
	[build]="gcc:gcc git:git pkg-config:pkg-config /usr/include/seccomp.h:libseccomp-dev /usr/share/doc/libc6-dev:libc6-dev"
	[demo]="/usr/share/doc/busybox-static:busybox-static"
	[test]="iptables:iptables dbus-daemon:dbus nft:nftables ip:iproute2 mmdebstrap:mmdebstrap curl:curl certutil:libnss3-tools age:age openssl:openssl zstd:zstd ssh:openssh-client"
	[bench]="nginx:nginx-light haproxy:haproxy caddy:caddy wrk:wrk h2load:nghttp2-client"
	[vm]="qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs dpkg-deb:dpkg cpio:cpio"
)

missing=()
for entry in ${packages[$group]}; do
	probe=${entry%%:*}
	case $probe in
	/*) [ -e "$probe" ] || missing+=("${entry##*:}") ;;
	*) command -v "$probe" >/dev/null || missing+=("${entry##*:}") ;;
	esac
done
command -v go >/dev/null || [ "$group" != build ] || missing+=(golang-go)

if [ ${#missing[@]} -gt 0 ]; then
	if ! command -v apt-get >/dev/null; then
		echo "missing: ${missing[*]} (names of Debian's packages); install them with your system's package manager" >&2
		exit 1
	fi
	as_root=
	[ "$(id -u)" = 0 ] || as_root=sudo
	echo "installing: ${missing[*]}"
	$as_root apt-get update -qq
	# In run level 1 no package starts a service of its own.
	$as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Any Go from 1.21 on fetches the version that go.mod names.
version=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
if [ "${version:-0}" -lt 21 ]; then
	echo "go is too old ($(go env GOVERSION)): install Go 1.21 or newer from https://go.dev/dl" >&2
	exit 1
fi
