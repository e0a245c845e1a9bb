// Package vm installs Maru from its package on a Debian with systemd and cgroup version 2, in a virtual
// machine, and sees it through restarts, reboots, power cuts, an upgrade and its removal. It takes QEMU
// and an hour: "make vm-test" runs it, "make test" does not.
package vm
