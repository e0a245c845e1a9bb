#!/bin/sh
# Runs what /docker-entrypoint.d holds and then the server, which starts as root and gives its
# workers to www-data, as the official image does.
set -e

if [ "$1" = nginx ] && [ -d /docker-entrypoint.d ]; then
	for script in /docker-entrypoint.d/*.sh; do
		[ -x "$script" ] || continue
		"$script"
	done
fi
exec "$@"
