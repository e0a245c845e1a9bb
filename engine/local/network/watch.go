package network

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	settleTime = 50 * time.Millisecond  // after a change by another program, for those that follow it
	restTime   = 500 * time.Millisecond // until changes are looked at again: some programs never stop
)

// watchFirewalls tells when another process has changed nftables. The channel is closed after ctx
// has ended, or when there is nothing to be told any more.
func watchFirewalls(ctx context.Context) (<-chan struct{}, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		conn.Close()
		return nil, err
	}
	changed := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		defer close(changed)
		defer stop()
		for ctx.Err() == nil {
			messages, err := conn.Receive()
			if err != nil && ctx.Err() != nil {
				return
			}
			if err == nil && !byOthers(messages) { // an error means that some were lost
				continue
			}
			wait(ctx, settleTime)
			select {
			case changed <- struct{}{}:
			default:
			}
			wait(ctx, restTime)
		}
	}()
	return changed, nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// byOthers tells whether one of the messages ends a transaction that no thread of this process made.
func byOthers(messages []netlink.Message) bool {
	for _, m := range messages {
		if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN || len(m.Data) < 4 {
			continue
		}
		attrs, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return true
		}
		attrs.ByteOrder = binary.BigEndian
		ours := false
		for attrs.Next() {
			if attrs.Type() == unix.NFTA_GEN_PROC_PID {
				_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", attrs.Uint32()))
				ours = err == nil
			}
		}
		if !ours {
			return true
		}
	}
	return false
}
