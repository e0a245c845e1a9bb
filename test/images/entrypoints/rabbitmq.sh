#!/bin/bash
# Gives the data folder to the broker's user and steps down to it; makes the first user from the
# environment, as the official image does.
set -euo pipefail

if [[ "$1" == rabbitmq* ]] && [ "$(id -u)" = 0 ]; then
	if [ "$1" = rabbitmq-server ]; then
		mkdir -p /var/lib/rabbitmq/mnesia
		find /var/lib/rabbitmq \! -user rabbitmq -exec chown rabbitmq '{}' +
	fi
	exec gosu rabbitmq "${BASH_SOURCE[0]}" "$@"
fi
if [ "$1" = rabbitmq-server ]; then
	{
		echo 'loopback_users = none'
		echo 'log.console = true'
		echo 'log.file = false'
		if [ -n "${RABBITMQ_DEFAULT_USER:-}" ]; then echo "default_user = $RABBITMQ_DEFAULT_USER"; fi
		if [ -n "${RABBITMQ_DEFAULT_PASS:-}" ]; then echo "default_pass = $RABBITMQ_DEFAULT_PASS"; fi
	} >/var/lib/rabbitmq/first.conf
	export RABBITMQ_CONFIG_FILE=/var/lib/rabbitmq/first.conf
fi
exec "$@"
