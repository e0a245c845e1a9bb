package probe

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func TestCommandThatPassesEarlyWaitsForAPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(listener.Addr().String())
	listener.Close() // the port is known, and closed

	type change struct {
		ready bool
		why   string
	}
	changes := make(chan change, 100)
	passes := func(context.Context, []string) (int, string, error) { return 0, "accepting connections", nil }
	watcher := Watcher{
		Probes:  maru.Probes{Ready: &maru.Probe{Exec: []string{"pg_isready"}, Interval: time.Hour}},
		Target:  Target{Address: at.Addr(), Ports: []uint16{at.Port()}, Exec: passes},
		Started: time.Now(),
		Changed: func(ready bool, why string) { changes <- change{ready, why} },
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { watcher.Run(ctx); close(ended) }()
	if got := <-changes; got.ready || !strings.Contains(got.why, "no port accepts connections yet") {
		t.Errorf("with a closed port: %+v", got)
	}
	if listener, err = net.Listen("tcp", at.String()); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if got := <-changes; !got.ready {
		t.Errorf("with an open port: %+v", got)
	}
	cancel()
	<-ended
}

func TestEarly(t *testing.T) {
	began := time.Unix(1000, 0)
	command := maru.Probe{Exec: []string{"true"}, Interval: 10 * time.Second}
	sooner, later := command, command
	sooner.StartInterval = 2 * time.Second
	later.Interval = 30 * time.Second
	for name, test := range map[string]struct {
		probe     maru.Probe
		succeeded bool
		after     time.Duration
		want      bool
	}{
		"a command at once":                  {probe: command, want: true},
		"a command after its interval":       {probe: command, after: 10 * time.Second},
		"a command after its start interval": {probe: sooner, after: 2 * time.Second, want: true},
		"a command after the set-up time":    {probe: sooner, after: 10 * time.Second},
		"a command within a longer interval": {probe: later, after: 29 * time.Second, want: true},
		"a command that has passed":          {probe: command, succeeded: true},
		"HTTP":                               {probe: maru.Probe{HTTP: &maru.HTTPProbe{}}},
	} {
		s := series{probe: test.probe, started: began, succeeded: test.succeeded}
		if got := s.early(began.Add(test.after)); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
