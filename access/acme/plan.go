package acme

import (
	"slices"
	"strings"
	"time"
)

// retries are how long to wait after that many failures in a row; the last for all that follow. Public
// authorities take five failures of a host in an hour, and one try may have two.
var retries = []time.Duration{15 * time.Minute, time.Hour, 4 * time.Hour, 12 * time.Hour, 24 * time.Hour}

func retryAfter(failures int) time.Duration {
	return retries[min(max(failures, 1), len(retries))-1]
}

// host is a host that is to have a certificate, with what is known of it.
type host struct {
	name     string
	from, to time.Time // of the certificate that it has; zero: it has none
	record   record
}

// record is what is kept of a host beside its certificate.
type record struct {
	Failures int       `json:"failures,omitempty"` // in a row
	Error    string    `json:"error,omitempty"`    // of the last one
	Next     time.Time `json:"next,omitzero"`      // no try before this
	// Renewal is when the authority wants the certificate to be renewed (RFC 9773); zero: it did not say.
	Renewal time.Time `json:"renewal,omitzero"`
	Ask     time.Time `json:"ask,omitzero"` // when it is to be asked again
}

// renewal is when the certificate is to be renewed: when the authority says, at the latest when a tenth of
// its life is left, and when a third is left where it says nothing.
func (h host) renewal() time.Time {
	if h.to.IsZero() {
		return time.Time{}
	}
	life := h.to.Sub(h.from)
	if r := h.record.Renewal; !r.IsZero() {
		if latest := h.to.Add(-life / 10); r.After(latest) {
			return latest
		}
		return r
	}
	return h.to.Add(-life / 3)
}

// due is when something is to be done for the host.
func (h host) due() time.Time {
	at := h.renewal()
	if at.Before(h.record.Next) {
		at = h.record.Next
	}
	return at
}

// decide gives the host for which a certificate is to be ordered now, or else the one whose authority is to
// be asked when to renew, and when to look again if there is neither. Those without a certificate go
// first, then those that are due the longest.
func decide(now time.Time, hosts []host) (order, ask *host, again time.Time) {
	sorted := slices.Clone(hosts)
	slices.SortFunc(sorted, func(a, b host) int {
		if a.to.IsZero() != b.to.IsZero() {
			if a.to.IsZero() {
				return -1
			}
			return 1
		}
		if c := a.due().Compare(b.due()); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	for i := range sorted {
		h := &sorted[i]
		if !h.due().After(now) {
			return h, nil, time.Time{}
		}
		again = earlier(again, h.due())
		if h.to.IsZero() {
			continue
		}
		if h.record.Ask.After(now) {
			again = earlier(again, h.record.Ask)
		} else if ask == nil {
			ask = h
		}
	}
	return nil, ask, again
}

// earlier gives the earlier one; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
