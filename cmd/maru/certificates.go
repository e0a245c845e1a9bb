package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/control"
)

// renewEvery is how often certificates are looked through for those that end soon.
const renewEvery = time.Hour

// keepCertificates gives the data planes a certificate of the local authority for each host that a
// route names and the authority may vouch for, as routes come and go and as certificates grow old.
func (c *controlPlane) keepCertificates(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	changed := make(chan struct{}, 1)
	go c.watchApps(ctx, changed)
	var known []string
	var given [][]byte
	for {
		hosts, err := c.routedHosts(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.Warn("could not find the hosts that need certificates", "error", err)
		}
		certificates, chains := c.certificates(hosts)
		if !slices.Equal(hosts, known) || !slices.EqualFunc(chains, given, slices.Equal) || known == nil {
			c.publisher.SetCertificates(certificates)
			known, given = hosts, chains
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *controlPlane) certificates(hosts []string) (all []maru.Certificate, chains [][]byte) {
	for _, host := range hosts {
		certificate, err := c.authority.Certificate(host)
		if err != nil {
			c.log.Warn("could not make a certificate", "host", host, "error", err)
			continue
		}
		all, chains = append(all, certificate), append(chains, certificate.Chain)
	}
	return all, chains
}

// routedHosts gives localhost and every host that a route names and the local authority may vouch for, sorted.
func (c *controlPlane) routedHosts(ctx context.Context) ([]string, error) {
	hosts := map[string]bool{"localhost": true, "*.localhost": true}
	// From the store: the controller knows no apps while it starts, and the hosts of those that serve
	// must not be without a certificate meanwhile.
	apps, _, err := c.store.List(ctx, control.KindApp, "")
	if err != nil {
		return nil, err
	}
	for _, object := range apps {
		app, err := control.Decode[maru.App](object.Key, object.Data)
		if err != nil {
			return nil, err
		}
		for _, service := range app.Services {
			for _, route := range service.Routes {
				host := strings.ToLower(route.Host)
				if host != "" && c.authority.Permits(host) == nil {
					hosts[host] = true
				}
			}
		}
	}
	var sorted []string
	for host := range hosts {
		sorted = append(sorted, host)
	}
	slices.Sort(sorted)
	return sorted, nil
}

// watchApps sends on changed when an app was deployed or removed.
func (c *controlPlane) watchApps(ctx context.Context, changed chan<- struct{}) {
	for ctx.Err() == nil {
		_, revision, err := c.store.List(ctx, "app", "")
		if err == nil {
			notify(changed)
			for event, watchErr := range c.store.Watch(ctx, revision) {
				if watchErr != nil {
					break
				}
				if event.Key.Kind == "app" {
					notify(changed)
				}
			}
		}
		pause(ctx, again)
	}
}

func notify(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
