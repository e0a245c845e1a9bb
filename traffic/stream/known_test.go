package stream

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/marucloud/maru"
)

func come(moment <-chan struct{}) bool {
	select {
	case <-moment:
		return true
	default:
		return false
	}
}

// TestKnowsWhatItHas follows a server that tells first of services and then of certificates, and starts
// anew without one.
func TestKnowsWhatItHas(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	socket := filepath.Join(t.TempDir(), "traffic.sock")
	var mu sync.Mutex
	var kept *os.File
	cfg := SubscriberConfig{Server: socket, Folder: t.TempDir(),
		Keep: func(_ string, f *os.File) error {
			mu.Lock()
			defer mu.Unlock()
			copied, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
			kept = copied
			return err
		},
		Kept: func(string) (*os.File, error) {
			mu.Lock()
			defer mu.Unlock()
			return kept, nil
		},
	}
	first := NewSubscriber(cfg, newPlane(), log)
	if err := first.Load(); err != nil || come(first.Services()) || come(first.Certificates()) {
		t.Fatal("something is known before anything was told", err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	publisher := NewPublisher(PublisherConfig{})
	publisher.Set(state("a", ""))
	publisher.Sync()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = NewServer(publisher, log).Run(ctx, listener) })
	running.Go(func() { _ = first.Run(ctx) })
	<-first.Services()
	if come(first.Certificates()) {
		t.Error("certificates are known before the server told of any")
	}
	publisher.SetCertificates([]maru.Certificate{{Chain: []byte("a"), Key: []byte("b")}})
	<-first.Certificates()
	await(t, func() bool { mu.Lock(); defer mu.Unlock(); return kept != nil })
	await(t, func() bool {
		info, err := os.Stat(filepath.Join(cfg.Folder, journalName))
		return err == nil && info.Size() > 0
	})

	cfg.Server = filepath.Join(t.TempDir(), "nobody.sock")
	second := NewSubscriber(cfg, newPlane(), log)
	if err := second.Load(); err != nil || !come(second.Services()) || !come(second.Certificates()) {
		t.Error("what was kept is not known", err)
	}
	alone := NewSubscriber(SubscriberConfig{}, newPlane(), log)
	if !come(alone.Services()) || !come(alone.Certificates()) {
		t.Error("waits for a server where there is none")
	}
}
