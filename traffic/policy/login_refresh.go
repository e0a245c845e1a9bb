package policy

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// keptRefresh is how long the outcome of a refresh is known to requests that come with the session of before:
// providers take a refresh token once.
const keptRefresh = time.Minute

// refreshes are those under way, and those that were done just now, by their token's hash.
type refreshes struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]*refresh
}

type refresh struct {
	done chan struct{}
	at   time.Time
	held session
	ok   bool
}

// refreshed asks the provider whether its word still holds. It does not when the provider says so; while it
// does not answer, it does.
func (s *login) refreshed(x *Exchange, held session, now time.Time) (session, bool) {
	key := sha256.Sum256([]byte(held.Refresh))
	s.refreshes.mu.Lock()
	r := s.refreshes.all[key]
	mine := r == nil
	if mine {
		for old, of := range s.refreshes.all {
			if now.Sub(of.at) > keptRefresh {
				delete(s.refreshes.all, old)
			}
		}
		if s.refreshes.all == nil {
			s.refreshes.all = map[[sha256.Size]byte]*refresh{}
		}
		r = &refresh{done: make(chan struct{}), at: now}
		s.refreshes.all[key] = r
	}
	s.refreshes.mu.Unlock()
	if !mine {
		<-r.done // it takes providerTime at most
		return r.held, r.ok
	}
	r.held, r.ok = s.refresh(x, held, now)
	close(r.done)
	return r.held, r.ok
}

func (s *login) refresh(x *Exchange, held session, now time.Time) (session, bool) {
	p, err := s.provider.get(x.Client.Context(), now)
	if err != nil {
		return held.later(now), true
	}
	ctx, cancel := providerContext(x.Client.Context())
	defer cancel()
	token, err := s.config(x, p).TokenSource(ctx, &oauth2.Token{RefreshToken: held.Refresh}).Token()
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused) && refused.Response.StatusCode < 500:
		return session{}, false
	case err != nil:
		return held.later(now), true
	}
	id, err := s.verified(ctx, p, token)
	if err != nil || id != nil && id.Subject != held.Subject {
		return session{}, false
	}
	fresh := held
	if err := s.fill(ctx, p, &fresh, id, token, now); err != nil {
		return session{}, false
	}
	if fresh.Refresh == "" {
		fresh.Refresh = held.Refresh
	}
	return fresh, true
}

// later gives the session as it is, for a while.
func (s session) later(now time.Time) session {
	s.Fresh = now.Add(freshAgain).Unix()
	return s
}
