#!/usr/bin/env bash
# Puts Maru in place for real use ("install"), or takes out what that put there ("uninstall"); data
# stays. PREFIX (/usr/local) says where, DESTDIR (none) builds a tree for a package. It works in a
# checkout after "make build", and in the folder of a release. BINARY (bin/maru) is the program; HOST_BINARY
# one that runs here, where BINARY is of another architecture.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

PREFIX=${PREFIX:-/usr/local}
BINARY=${BINARY:-bin/maru}
SYSCONFDIR=${SYSCONFDIR:-/etc}
root=${DESTDIR:-}$PREFIX
settings=${DESTDIR:-}$SYSCONFDIR/maru/maru.env
completions="$root/share/bash-completion/completions/maru $root/share/zsh/site-functions/_maru $root/share/fish/vendor_completions.d/maru.fish"

installed() { # every file that install puts in place, the settings excepted
	echo "$root/bin/maru"
	for unit in packaging/systemd/*.service packaging/systemd/*.socket packaging/systemd/*.target; do
		echo "$root/lib/systemd/system/${unit##*/}"
	done
	echo "$root/lib/systemd/system-generators/maru-sockets"
	echo "$root/lib/sysusers.d/maru.conf"
	echo "$root/lib/tmpfiles.d/maru.conf"
	printf '%s\n' $completions
}

live() { # on the running system, and systemd runs it
	[ -z "${DESTDIR:-}" ] && [ -d /run/systemd/system ]
}

need_root() {
	if [ -z "${DESTDIR:-}" ] && [ "$(id -u)" != 0 ]; then
		echo "this needs root: try again with sudo" >&2
		exit 1
	fi
}

install_files() {
	# Into place by rename: the program may be running.
	install -D -m 755 "$BINARY" "$root/bin/maru.new"
	mv "$root/bin/maru.new" "$root/bin/maru"
	for unit in packaging/systemd/*.service packaging/systemd/*.socket packaging/systemd/*.target; do
		install -d "$root/lib/systemd/system"
		sed "s|@BIN@|$PREFIX/bin|g" "$unit" >"$root/lib/systemd/system/${unit##*/}"
		chmod 644 "$root/lib/systemd/system/${unit##*/}"
	done
	install -D -m 755 packaging/systemd/maru-sockets.generator "$root/lib/systemd/system-generators/maru-sockets"
	install -D -m 644 packaging/sysusers.d/maru.conf "$root/lib/sysusers.d/maru.conf"
	install -D -m 644 packaging/tmpfiles.d/maru.conf "$root/lib/tmpfiles.d/maru.conf"
	[ -e "$settings" ] || install -D -m 644 packaging/maru.env "$settings"
	set -- $completions
	mkdir -p "$(dirname "$1")" "$(dirname "$2")" "$(dirname "$3")"
	"${HOST_BINARY:-$BINARY}" completion bash >"$1"
	"${HOST_BINARY:-$BINARY}" completion zsh >"$2"
	"${HOST_BINARY:-$BINARY}" completion fish >"$3"
}

case ${1:-install} in
install)
	need_root
	[ -x "$BINARY" ] || { echo "$BINARY is missing: run 'make build' first" >&2; exit 1; }
	install_files
	if ! live; then
		[ -n "${DESTDIR:-}" ] || echo "Installed. systemd does not run here: start it with '$PREFIX/bin/maru start'."
		exit 0
	fi
	systemd-sysusers "$root/lib/sysusers.d/maru.conf"
	systemd-tmpfiles --create "$root/lib/tmpfiles.d/maru.conf"
	packaging/activate
	echo "Maru runs. Look with: maru status --platform. Settings: $settings"
	;;
uninstall)
	need_root
	if live; then
		systemctl disable --quiet maru.target 2>/dev/null || true
		[ ! -x "$root/bin/maru" ] || "$root/bin/maru" shutdown --stop-instances
	fi
	installed | while read -r file; do rm -f "$file"; done
	cmp -s packaging/maru.env "$settings" && rm -f "$settings"
	for folder in "${settings%/*}" "$root/lib/systemd/system-generators" "$root/lib/systemd/system" "$root/lib/systemd" \
		"$root/lib/sysusers.d" "$root/lib/tmpfiles.d" "$root/share/bash-completion/completions" "$root/share/bash-completion" \
		"$root/share/zsh/site-functions" "$root/share/fish/vendor_completions.d" "$root/share/fish"; do
		rmdir "$folder" 2>/dev/null || true
	done
	if live; then
		systemctl daemon-reload
		systemctl reset-failed 'maru-*' 2>/dev/null || true
		rm -rf /run/maru
		# The next install makes the user again; its data is nobody else's meanwhile.
		[ ! -e /var/lib/maru/proxy ] || chown -R root:root /var/lib/maru/proxy
		! getent passwd maru-proxy >/dev/null || userdel maru-proxy
	fi
	[ ! -e /var/lib/maru ] || [ -n "${DESTDIR:-}" ] || echo "Data is left in /var/lib/maru: apps, volumes, images, logs. Remove it with: rm -rf --one-file-system /var/lib/maru"
	;;
*)
	echo "usage: [PREFIX=/usr/local] [DESTDIR=] scripts/install.sh install|uninstall" >&2
	exit 2
	;;
esac
