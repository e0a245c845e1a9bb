package policy

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/marucloud/maru"
)

// addresses lets only some clients in.
type addresses struct{ allow, deny []netip.Prefix }

func newAddresses(a *maru.AddressList) (step, error) {
	if a == nil {
		return nil, nil
	}
	return addresses{a.Allow, a.Deny}, nil
}

func (s addresses) take(x *Exchange) *Answer {
	if !contains(s.deny, x.Source) && (len(s.allow) == 0 || contains(s.allow, x.Source)) {
		return nil
	}
	return &Answer{
		Status: http.StatusForbidden, Title: "Not allowed", Reason: "address " + x.Source.String() + " is not let in",
		What: "Your address is not let in here.", Do: "Come from a network that is, or ask who runs this site.",
	}
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// maintenance turns all clients away but some.
type maintenance struct {
	text   string
	except []netip.Prefix
}

// maintenanceRetry is when clients are told to come again.
const maintenanceRetry = time.Minute

func newMaintenance(m *maru.Maintenance) (step, error) {
	if m == nil {
		return nil, nil
	}
	s := maintenance{m.Text, m.Except}
	if s.text == "" {
		s.text = "This site is being worked on."
	}
	return s, nil
}

func (s maintenance) take(x *Exchange) *Answer {
	if contains(s.except, x.Source) {
		return nil
	}
	return &Answer{
		Status: http.StatusServiceUnavailable, Title: "Down for maintenance", Reason: "maintenance",
		What: s.text, Do: "Try again later.", After: maintenanceRetry,
	}
}
