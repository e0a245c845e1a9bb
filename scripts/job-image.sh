#!/usr/bin/env bash
# Packs an image for jobs that test Go programs, of what is on this machine: job-image.sh NAME FILE. Busybox is its
# shell and its tools. FILE is an archive as "docker save" makes it.
set -euo pipefail
[ $# = 2 ] || { echo "usage: scripts/job-image.sh NAME FILE" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,etc,proc,root,tmp,usr/bin,usr/local/go/pkg}
for tool in $(busybox --list); do
	ln -s busybox "$root/bin/$tool"
done
cp --remove-destination "$(command -v busybox)" "$root/bin/busybox" # which is in its own list
ln -s /bin/env "$root/usr/bin/env"
echo "root:x:0:0:root:/root:/bin/sh" >"$root/etc/passwd"
go=$(go env GOROOT)
cp -rL "$go"/{bin,lib,src,go.env,VERSION} "$root/usr/local/go/"
cp -rL "$go"/pkg/{include,tool} "$root/usr/local/go/pkg/"

tar -C "$root" --owner 0 --group 0 -cf "$work/layer.tar" .
rm -rf "$root"
cat >"$work/config.json" <<JSON
{"architecture": "$(go env GOARCH)", "os": "linux",
 "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/go/bin:/usr/bin:/bin", "GOTOOLCHAIN=local", "CGO_ENABLED=0"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$(sha256sum "$work/layer.tar" | cut -d' ' -f1)"]}}
JSON
echo '[{"Config": "config.json", "RepoTags": ["'"$1"'"], "Layers": ["layer.tar"]}]' >"$work/manifest.json"
tar -C "$work" -cf "$2" manifest.json config.json layer.tar
