package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
)

// Plane is the data plane that a subscriber feeds.
type Plane interface {
	maru.DataPlane
	// Traffic gives the state of all services that are in force.
	Traffic() iter.Seq[maru.ServiceTraffic]
	// Resolvers gives the name servers that are in force.
	Resolvers() []netip.AddrPort
	// Report tells of the plane itself, and News gets a value when there is something new to tell.
	Report() maru.TrafficReport
	News() <-chan struct{}
}

// SubscriberConfig says where state comes from and where it is kept.
type SubscriberConfig struct {
	Server string // unix socket; "": none
	Folder string // for the journal; "": none
	// Keep and Kept carry certificates over a restart of the process; nil: they come from the server
	// again.
	Keep func(name string, f *os.File) error
	Kept func(name string) (*os.File, error)
	// Evidence is what the server is to be told of drawn requests; nil: nothing.
	Evidence Evidence
}

// Evidence gathers how requests went that were drawn between two releases.
type Evidence interface {
	// More gets a value when there is something to take.
	More() <-chan struct{}
	// Take gives what was gathered, and forgets it.
	Take() []maru.Evidence
}

// Subscriber keeps a data plane up to date.
type Subscriber struct {
	cfg    SubscriberConfig
	plane  Plane
	log    *slog.Logger
	client *http.Client
	keeper *keeper

	// What is in memory alone; of Load, then of the goroutine that follows.
	kept    map[string]*os.File
	secrets map[maru.ServiceID]map[string]string

	stream    atomic.Pointer[string] // whose first update is in force
	connected chan struct{}          // gets a value when stream was set

	services, certificates, told moment // when each is known, and when the server said so
}

// moment is when something comes to be so.
type moment struct {
	once sync.Once
	come chan struct{}
}

func newMoment() moment { return moment{come: make(chan struct{})} }

func (m *moment) now() { m.once.Do(func() { close(m.come) }) }

const (
	firstBackoff   = 20 * time.Millisecond
	longestBackoff = 2 * time.Second
)

// NewSubscriber makes a subscriber. It starts nothing.
func NewSubscriber(cfg SubscriberConfig, plane Plane, log *slog.Logger) *Subscriber {
	var dialer net.Dialer
	s := &Subscriber{
		cfg: cfg, plane: plane, log: log, connected: make(chan struct{}, 1),
		secrets:  map[maru.ServiceID]map[string]string{},
		services: newMoment(), certificates: newMoment(), told: newMoment(),
	}
	if cfg.Server == "" {
		s.services.now()
		s.certificates.now()
		s.told.now()
	}
	s.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", cfg.Server)
		},
		MaxIdleConnsPerHost: 2,
	}}
	s.keeper = newKeeper(cfg.Folder, plane, log)
	return s
}

// Load puts the state that was last known in force, if there is one.
func (s *Subscriber) Load() error {
	u, err := s.keeper.load()
	if err != nil {
		return err
	}
	if u.Certificates, err = s.keptCertificates(); err != nil {
		s.log.Warn("certificates were not kept over the restart", "error", err)
	}
	if err := s.keptSecrets(u.Services); err != nil {
		s.log.Warn("secrets were not kept over the restart", "error", err)
	}
	return s.update(u)
}

// Services is closed when it is known which services there are: from before if there were any, else by the
// server's first word. Where there is no server it is closed from the start.
func (s *Subscriber) Services() <-chan struct{} { return s.services.come }

// Certificates is closed likewise when the plane has certificates.
func (s *Subscriber) Certificates() <-chan struct{} { return s.certificates.come }

// Told is closed when the server told everything once. Where there is no server it is closed from the start.
func (s *Subscriber) Told() <-chan struct{} { return s.told.come }

// update puts a step in force and notes what is known by it.
func (s *Subscriber) update(u maru.TrafficUpdate) error {
	if err := s.plane.Update(u); err != nil {
		return err
	}
	told := u.Version > 0 // what was kept has no version
	if told {
		s.told.now()
	}
	if told || len(u.Services) > 0 {
		s.services.now()
	}
	if len(u.Certificates) > 0 {
		s.certificates.now()
	}
	return nil
}

// Run follows the server and keeps what it says until ctx ends. An absent server is waited for.
func (s *Subscriber) Run(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.keeper.run(ctx) })
	if s.cfg.Server != "" {
		group.Go(func() error { return s.follow(ctx) })
		group.Go(func() error { return s.reports(ctx) })
		if s.cfg.Evidence != nil {
			group.Go(func() error { return s.evidence(ctx) })
		}
	}
	return group.Wait()
}

// Handover leaves the kept state to the process that follows this one. Updates go on.
func (s *Subscriber) Handover() { s.keeper.stop() }

func (s *Subscriber) follow(ctx context.Context) error {
	backoff := firstBackoff
	for level := slog.LevelInfo; ; level = slog.LevelDebug { // an absence is told once
		began := time.Now()
		connected, err := s.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if connected {
			level = slog.LevelInfo
		}
		if time.Since(began) > longestBackoff {
			backoff = firstBackoff
		}
		s.log.Log(ctx, level, "no traffic stream; going on with what is known", "error", err)
		timer := time.NewTimer(backoff + rand.N(backoff/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		backoff = min(2*backoff, longestBackoff)
	}
}

// once follows one stream to its end, and tells whether anything came.
func (s *Subscriber) once(ctx context.Context) (connected bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://maru"+updatesPath, http.NoBody)
	if err != nil {
		return false, err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return false, fmt.Errorf("the server answered %s", res.Status)
	}
	id := res.Header.Get(streamHeader)
	defer s.stream.Store(nil)
	frames := newFrameReader(res.Body)
	for first := true; ; first = false {
		u, err := frames.next()
		if err != nil {
			return !first, err
		}
		if first && !u.Full {
			return false, errors.New("the stream does not begin with everything")
		}
		if err := s.update(u); err != nil {
			return !first, err
		}
		if first {
			s.stream.Store(&id)
			s.log.Info("traffic stream connected", "version", u.Version, "services", len(u.Services))
			select {
			case s.connected <- struct{}{}:
			default:
			}
		}
		s.keeper.keep(u)
		if len(u.Certificates) > 0 {
			s.keepCertificates(u.Certificates)
		}
		s.keepSecrets(u)
	}
}

// reports posts the plane's report whenever it has news. News that come meanwhile go into the next. One that
// could not be sent is tried again: somebody may be waiting for what is in it.
func (s *Subscriber) reports(ctx context.Context) error {
	again := time.NewTimer(0)
	again.Stop()
	backoff := firstBackoff
	for {
		select {
		case <-s.plane.News():
		case <-s.connected:
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
		id := s.stream.Load()
		if id == nil {
			continue
		}
		err := s.post(ctx, *id, s.plane.Report())
		if err == nil || ctx.Err() != nil {
			backoff = firstBackoff
			continue
		}
		s.log.Debug("traffic report not sent", "error", err, "again in", backoff)
		again.Reset(backoff)
		backoff = min(2*backoff, longestBackoff)
	}
}

// gather is how long evidence waits for more to be told along with it.
const gather = 25 * time.Millisecond

// evidence tells how drawn requests went. What can't be told is lost: a judge needs no certain request.
func (s *Subscriber) evidence(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.cfg.Evidence.More():
		case <-ctx.Done():
			return nil
		}
		timer.Reset(gather)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		all := s.cfg.Evidence.Take()
		if id := s.stream.Load(); id != nil && len(all) > 0 {
			if err := s.send(ctx, evidencePath, *id, all); err != nil && ctx.Err() == nil {
				s.log.Debug("evidence was lost", "error", err)
			}
		}
	}
}

func (s *Subscriber) post(ctx context.Context, id string, r maru.TrafficReport) error {
	return s.send(ctx, reportsPath, id, r)
}

func (s *Subscriber) send(ctx context.Context, path, id string, what any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // a server that hangs gets the next report
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://maru"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set(streamHeader, id)
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	if res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the server answered %s", res.Status)
	}
	return nil
}
