package server_test

import (
	"context"
	"testing"
	"time"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// certificates is the part of the world that keeps certificates.
type certificates struct{ given map[string]maru.Certificate }

func (c certificates) Add(_ context.Context, by, name string, given maru.Certificate) (maru.CertificateInfo, error) {
	c.given[name] = given
	return maru.CertificateInfo{Name: name, Source: maru.CertificateGiven, By: by, State: maru.CertificateValid, NotAfter: time.Unix(9, 0)}, nil
}

func (c certificates) Certificates(context.Context) ([]maru.CertificateInfo, error) {
	var all []maru.CertificateInfo
	for name := range c.given {
		all = append(all, maru.CertificateInfo{Name: name})
	}
	return all, nil
}

func (c certificates) Remove(_ context.Context, _, name string) error {
	delete(c.given, name)
	return nil
}

// TestCertificates adds, lists and removes; keys never come back, and only administrators of the machine may.
func TestCertificates(t *testing.T) {
	r := start(t)
	added, err := r.local.Certificates.Add(t.Context(), &maruv1.CertificateServiceAddRequest{Name: "shop", Chain: []byte("c"), Key: []byte("k")})
	if err != nil || added.Certificate.Name != "shop" || added.Certificate.By == "" || added.Certificate.NotAfter.AsTime().Unix() != 9 {
		t.Fatal(added, err)
	}
	if got := r.world.certificates.given["shop"]; string(got.Chain) != "c" || string(got.Key) != "k" {
		t.Error(got)
	}
	reader := r.as("reader", maru.RoleRead, maru.Scope{})
	list, err := reader.Certificates.List(t.Context(), &maruv1.CertificateServiceListRequest{})
	if err != nil || len(list.Certificates) != 1 {
		t.Error(list, err)
	}
	if _, err := reader.Certificates.Remove(t.Context(), &maruv1.CertificateServiceRemoveRequest{Name: "shop"}); maru.KindOf(err) != maru.Denied {
		t.Error(err)
	}
	scoped := r.as("scoped", maru.RoleAdmin, maru.Scope{Project: "default"})
	if _, err := scoped.Certificates.Add(t.Context(), &maruv1.CertificateServiceAddRequest{Name: "x"}); maru.KindOf(err) != maru.Denied {
		t.Error(err)
	}
	if _, err := r.local.Certificates.Remove(t.Context(), &maruv1.CertificateServiceRemoveRequest{Name: "shop"}); err != nil || len(r.world.certificates.given) != 0 {
		t.Error(err)
	}
}
