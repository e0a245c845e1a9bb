package probe

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func TestPatience(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(listener.Addr().String())
	listener.Close() // the port is known, and closed
	for name, c := range map[string]struct {
		ran, patience time.Duration
		want          bool
	}{
		"it is over":      {time.Minute, time.Minute, true},
		"it is not over":  {time.Second, time.Hour, false},
		"there is no end": {time.Hour, 0, false},
	} {
		changes := make(chan bool, 100)
		watcher := Watcher{
			Probes:   maru.Probes{Ready: &maru.Probe{TCP: at.Port(), Interval: time.Hour, StartInterval: time.Hour}},
			Target:   Target{Address: at.Addr(), Port: at.Port(), Ports: []uint16{at.Port()}},
			Started:  time.Now().Add(-c.ran),
			Once:     true,
			Patience: c.patience,
			Changed:  func(ready bool, _ string) { changes <- ready },
		}
		go watcher.Run(t.Context())
		if got := <-changes; got != c.want {
			t.Errorf("when %s: ready %v", name, got)
		}
	}
}
