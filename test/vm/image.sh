#!/usr/bin/env bash
# Makes the disk of the tests' virtual machine, a Debian with systemd, cgroup v2 and the agent, in the
# folder given: disk.img, vmlinuz, initrd.img. Does nothing when they are fresh.
set -euo pipefail
folder=$1 agent=$2
suite=${MARU_VM_SUITE:-bookworm}
mirror=${MARU_VM_MIRROR:-} # none: the one that mmdebstrap knows
packages=systemd,systemd-sysv,udev,dbus,kmod,initramfs-tools,linux-image-cloud-amd64,nftables,iproute2,ca-certificates,procps,curl,jq,strace
mkdir -p "$folder"

key=$(cat "$0" "$agent" | sha256sum | cut -d' ' -f1)-$suite
[ "$(cat "$folder/key" 2>/dev/null)" != "$key" ] || exit 0
rm -f "$folder/key"

# As a folder, which needs root, or could be had of a tar file only.
tree=$(mktemp -d "$folder/tree.XXXXXX")
trap 'rm -rf --one-file-system "$tree"' EXIT
base=$folder/base-$suite-$(echo "$packages" | sha256sum | cut -c1-12).tar
if [ ! -e "$base" ]; then
	mmdebstrap --variant=minbase --include="$packages" "$suite" "$base.new.tar" ${mirror:+"$mirror"}
	mv "$base.new.tar" "$base"
fi
tar -C "$tree" --exclude='./dev/*' -xf "$base"

install -D -m 755 "$agent" "$tree/usr/local/bin/agent"
echo maru-vm >"$tree/etc/hostname"
cat >"$tree/etc/systemd/system/agent.service" <<-UNIT
	[Unit]
	Description=Runs the tests' scripts
	After=multi-user.target
	StartLimitIntervalSec=0

	[Service]
	ExecStart=/usr/local/bin/agent
	Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	Restart=always
	RestartSec=1s
	StandardError=journal+console

	[Install]
	WantedBy=multi-user.target
UNIT
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants" "$tree/payload" "$tree/var/log/journal"
ln -s ../agent.service "$tree/etc/systemd/system/multi-user.target.wants/agent.service"
ln -sf /lib/systemd/system/systemd-networkd.service "$tree/etc/systemd/system/multi-user.target.wants/"
printf '[Match]\nType=ether\nName=en* eth*\n[Network]\nDHCP=yes\n' >"$tree/etc/systemd/network/80-dhcp.network"
printf '/dev/vdb /payload ext4 ro,nofail 0 0\n' >"$tree/etc/fstab"

cp "$tree"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$tree"/boot/initrd.img-* "$folder/initrd.img"
rm -f "$folder/disk.img"
truncate -s 8G "$folder/disk.img"
mke2fs -q -t ext4 -F -E lazy_itable_init=1,lazy_journal_init=1 -d "$tree" "$folder/disk.img"
echo "$key" >"$folder/key"
