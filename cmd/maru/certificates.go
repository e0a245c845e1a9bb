package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/acme"
	"github.com/marucloud/maru/access/authority"
	"github.com/marucloud/maru/access/certificate"
	"github.com/marucloud/maru/control"
	"github.com/marucloud/maru/store/sqlite"
)

// renewEvery is how often certificates are looked through for those that end soon.
const renewEvery = time.Hour

// certificates gives the data planes a certificate for each host that a route names: one that a person
// added or that was got by ACME, else one of the local authority where it may vouch for the host.
type certificates struct {
	*certificate.Vault
	store     *sqlite.Store
	authority *authority.Authority
	acme      *acme.Manager // nil: nobody asked for it
}

// newACME has certificates for public host names got by ACME, if the flags say so.
func (c *controlPlane) newACME(p *platform) error {
	cfg, err := p.acme.config()
	if err != nil || cfg == nil {
		return err
	}
	cfg.Hosts = c.certificates.routedHosts
	c.certificates.acme, err = acme.New(*cfg, c.store, c.box, c.publisher, c.log)
	return err
}

// keepCertificates tells the data planes of them as routes and certificates come and go, and as
// certificates grow old.
func (c *controlPlane) keepCertificates(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	changed := make(chan struct{}, 1)
	go c.watchHosts(ctx, changed)
	var known []maru.Certificate
	for {
		all, err := c.certificates.inForce(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.Warn("some hosts are without their certificates", "error", err)
		}
		if all != nil && !slices.EqualFunc(all, known, sameCertificate) {
			c.publisher.SetCertificates(all)
			known = all
		}
		select {
		case <-changed:
			if c.certificates.acme != nil {
				c.certificates.acme.Wake()
			}
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func sameCertificate(a, b maru.Certificate) bool {
	return slices.Equal(a.Chain, b.Chain) && slices.Equal(a.Key, b.Key) && a.Public == b.Public
}

// inForce gives the certificates that the gateway is to have. What can't be had is an error beside the
// others; nil when nothing is known.
func (c *certificates) inForce(ctx context.Context) ([]maru.Certificate, error) {
	hosts, err := c.routedHosts(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := c.All(ctx)
	failed := []error{err}
	var all []maru.Certificate
	for _, host := range c.local(hosts, kept, time.Now()) {
		made, err := c.authority.Certificate(host)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all = append(all, made)
	}
	for _, one := range kept {
		all = append(all, one.Certificate)
	}
	return all, errors.Join(failed...)
}

// local gives the hosts that need a certificate of the local authority.
func (c *certificates) local(hosts map[string]maru.Scope, kept []certificate.One, now time.Time) []string {
	local := []string{"*.localhost", "localhost"}
	hosts = maps.Clone(hosts)
	if host, err := os.Hostname(); err == nil {
		hosts[strings.ToLower(host)] = maru.Scope{} // the server's own routes
	}
	for host := range hosts {
		covered := slices.ContainsFunc(kept, func(o certificate.One) bool { return o.Covers(host, now) })
		if !covered && !slices.Contains(local, host) && c.authority.Permits(host) == nil {
			local = append(local, host)
		}
	}
	slices.Sort(local)
	return local
}

// Certificates tells of all, as the API does.
func (c *certificates) Certificates(ctx context.Context) ([]maru.CertificateInfo, error) {
	kept, err := c.All(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := c.routedHosts(ctx)
	if err != nil {
		return nil, err
	}
	var all []maru.CertificateInfo
	if c.acme != nil {
		if all, err = c.acme.Certificates(ctx); err != nil {
			return nil, err
		}
	}
	for _, one := range kept {
		i := slices.IndexFunc(all, func(i maru.CertificateInfo) bool { return i.Source == one.Info.Source && i.Name == one.Info.Name })
		if i < 0 {
			all = append(all, one.Info)
			continue
		}
		// It is known from the orders when it is renewed, and what went wrong with that.
		one.Info.Renewal = all[i].Renewal
		if all[i].Message != "" {
			one.Info.Message = all[i].Message
		}
		all[i] = one.Info
	}
	now := time.Now()
	for _, host := range c.local(hosts, kept, now) {
		made, err := c.authority.Certificate(host)
		if err != nil {
			return nil, err
		}
		leaf, err := certificate.Check(made, now)
		if err != nil {
			return nil, err
		}
		info := certificate.Describe(maru.CertificateLocal, host, leaf, now)
		info.Renewal = leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b maru.CertificateInfo) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

// routedHosts gives every host that a route names, with an app that does.
func (c *certificates) routedHosts(ctx context.Context) (map[string]maru.Scope, error) {
	// From the store: the controller knows no apps while it starts, and the hosts of those that serve
	// must not be without a certificate meanwhile.
	apps, _, err := c.store.List(ctx, control.KindApp, "")
	if err != nil {
		return nil, err
	}
	hosts := map[string]maru.Scope{}
	for _, object := range apps {
		app, err := control.Decode[maru.App](object.Key, object.Data)
		if err != nil {
			return nil, err
		}
		var scope maru.Scope
		if err := scope.UnmarshalText([]byte(object.Name)); err != nil {
			return nil, err
		}
		for _, service := range app.Services {
			for _, route := range service.Routes {
				if host := strings.ToLower(route.Host); host != "" {
					hosts[host] = scope
				}
			}
		}
	}
	return hosts, nil
}

// watchHosts sends on changed when an app was deployed or removed, or a certificate came or went.
func (c *controlPlane) watchHosts(ctx context.Context, changed chan<- struct{}) {
	for ctx.Err() == nil {
		_, revision, err := c.store.List(ctx, control.KindApp, "")
		if err == nil {
			poke(changed)
			for event, watchErr := range c.store.Watch(ctx, revision) {
				if watchErr != nil {
					break
				}
				if event.Key.Kind == control.KindApp || certificate.Is(event.Key) {
					poke(changed)
				}
			}
		}
		pause(ctx, again)
	}
}

func poke(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
