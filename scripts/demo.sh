#!/usr/bin/env bash
# Runs Maru from this checkout with the shop on it and shows what becomes of a push ("up"), or stops it and removes
# all that it left ("down").
set -euo pipefail
cd "$(dirname "$0")/.."

maru=$PWD/bin/maru
clone=$PWD/.demo-shop
visitors=$PWD/bin/demo-visitors
job_image=localhost/demo-go:1
platform=(--name demo --data "$PWD/.demo" --run /run/maru-demo --http 127.0.0.1:8080 --https 127.0.0.1:8443 --api 127.0.0.1:6278)
export MARU_SOCKET=/run/maru-demo/server.sock
as_root=
[ "$(id -u)" = 0 ] || as_root="sudo --preserve-env=MARU_SOCKET,GOPROXY,GOFLAGS,GONOSUMDB,GOSUMDB"

# title TEXT: what comes next.
title() { printf '\n== %s\n' "$*"; }

# give_job_image has the image at hand that the shop's tests run in: no registry is asked for it.
give_job_image() {
	if $as_root "$maru" image ls | grep -q "${job_image%:*}"; then return; fi
	local archive
	archive=$(mktemp)
	scripts/job-image.sh "$job_image" "$archive"
	$as_root "$maru" image load "$archive" >/dev/null
	rm -f "$archive"
}

# make_clone makes a repository of the shop, with the server's as its remote.
make_clone() {
	local token
	token=$($as_root "$maru" token create demo --app shop)
	cp -r examples/shop "$clone"
	git -C "$clone" init -q -b main
	git -C "$clone" config user.name "Maru's demo"
	git -C "$clone" config user.email demo@localhost
	git -C "$clone" add -A
	git -C "$clone" commit -q -m "The shop"
	git -C "$clone" remote add maru "http://demo:$token@localhost:8080/git/shop.git"
}

# push PATCH MESSAGE EXIT SAYS: commits a change and pushes it. The push has to exit with EXIT and to say SAYS.
push() {
	local status=0
	git -C "$clone" apply --index "$PWD/scripts/demo/$1.patch"
	git -C "$clone" commit -q -m "$2"
	git -C "$clone" push maru main 2>&1 | tee "$clone/.git/push.log" || status=$?
	if [ "$status" != "$3" ] || ! grep -q "$4" "$clone/.git/push.log"; then
		echo "demo: the push ended with $status, and should have with $3 and said: $4" >&2
		exit 1
	fi
}

up() {
	if ! $as_root "$maru" status --platform >/dev/null 2>&1; then
		$as_root "$maru" start --detach "${platform[@]}" --job-image "ubuntu-latest=$job_image" >/dev/null
	fi
	(cd examples/shop && $as_root "$maru" deploy)
	cat <<-TEXT

		The shop runs at   http://shop.localhost:8080
		                   https://shop.localhost:8443   (make your browser trust it: sudo bin/maru trust)
	TEXT
	if [ -e "$clone" ]; then
		hints
		return
	fi
	title "What a push leads to. The shop's tests run in a container; its image is made of the Go that is here"
	give_job_image
	make_clone
	title "git push: a new product. It is tested, built, and takes over"
	push 1-new-product "Sell omija" 0 "is serving"
	title "git push: a ribbon for nothing. A test has something against it, and nothing is deployed"
	push 2-broken-test "Sell ribbons" 1 "FAIL"
	git -C "$clone" revert --no-edit HEAD >/dev/null
	title "git push: proverbs, for a fifth of 100 visitors a second at first. The tests pass; the page breaks for some"
	"$visitors" &
	local visiting=$!
	trap 'kill $visiting 2>/dev/null || true' EXIT
	push 3-fails-in-production "Greet with proverbs" 1 "taken back"
	kill -INT "$visiting"
	wait "$visiting"
	trap - EXIT
	hints
}

hints() {
	cat <<-TEXT

		Look at it:        export MARU_SOCKET=$MARU_SOCKET
		                   sudo -E bin/maru status --app shop
		                   sudo -E bin/maru logs --app shop --follow
		                   sudo -E bin/maru runs --app shop
		Change it:         in $clone, then: git push maru main
		Stop it:           make demo-down
	TEXT
}

case ${1:-} in
up)
	mkdir -p bin
	(cd examples/shop && CGO_ENABLED=0 go build -o "$visitors" ./visitors)
	up
	;;
down)
	rm -rf "$clone"
	$as_root "$maru" shutdown --purge "${platform[@]}"
	;;
*)
	echo "usage: scripts/demo.sh up|down" >&2
	exit 2
	;;
esac
