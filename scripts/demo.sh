#!/usr/bin/env bash
# Runs Maru from this checkout with the shop on it ("up"), or stops it and removes all that it left ("down").
set -euo pipefail
cd "$(dirname "$0")/.."

maru=$PWD/bin/maru
platform=(--name demo --data "$PWD/.demo" --run /run/maru-demo --http 127.0.0.1:8080 --https 127.0.0.1:8443 --api 127.0.0.1:6278)
export MARU_SOCKET=/run/maru-demo/server.sock
as_root=
[ "$(id -u)" = 0 ] || as_root="sudo --preserve-env=MARU_SOCKET,GOPROXY,GOFLAGS,GONOSUMDB,GOSUMDB"

case ${1:-} in
up)
	if ! $as_root "$maru" status --platform >/dev/null 2>&1; then
		$as_root "$maru" start --detach "${platform[@]}" >/dev/null
	fi
	cd examples/shop
	$as_root "$maru" deploy
	cat <<-TEXT

		The shop runs at   http://shop.localhost:8080
		                   https://shop.localhost:8443   (make your browser trust it: sudo bin/maru trust)

		Look at it:        export MARU_SOCKET=$MARU_SOCKET
		                   sudo -E bin/maru status --app shop
		                   sudo -E bin/maru logs --app shop --follow
		Stop it:           make demo-down
	TEXT
	;;
down)
	$as_root "$maru" shutdown --purge "${platform[@]}"
	;;
*)
	echo "usage: scripts/demo.sh up|down" >&2
	exit 2
	;;
esac
