package control

import (
	"context"
	"reflect"
	"sync"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// dirty holds the services whose traffic may have changed.
type dirty struct {
	mu       sync.Mutex
	services map[maru.ServiceID]bool
	more     chan struct{}
}

func newDirty() *dirty {
	return &dirty{services: map[maru.ServiceID]bool{}, more: make(chan struct{}, 1)}
}

func (d *dirty) mark(id maru.ServiceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.services[id] = true
	select {
	case d.more <- struct{}{}:
	default:
	}
}

func (d *dirty) take() map[maru.ServiceID]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.services
	d.services = make(map[maru.ServiceID]bool, min(len(all), 64))
	return all
}

// publish hands over the traffic of services as it changes. Nothing is said before store and engine
// have told all that they have.
func (c *Controller) publish(ctx context.Context) error {
	err := c.view.until(ctx, "store and engine are read", func() bool {
		return c.view.loaded && c.view.revision >= c.view.complete && c.view.synced
	})
	if err != nil {
		return nil //nolint:nilerr // ctx ended
	}
	published := map[maru.ServiceID]maru.ServiceTraffic{}
	c.publishNow(ctx, c.traffic.take(), published)
	c.publisher.Sync()
	for {
		select {
		case <-c.traffic.more:
			c.publishNow(ctx, c.traffic.take(), published)
		case done := <-c.settle:
			c.publishNow(ctx, c.traffic.take(), published)
			close(done)
		case <-ctx.Done():
			return nil
		}
	}
}

// InForce waits until every data plane has in force what follows from the state that this controller has
// told of so far.
func (c *Controller) InForce(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case c.settle <- done:
		<-done
		return c.publisher.InForce(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// admitting fills in what data planes need of the secrets by which clients are let in. A secret that can't
// be read lets nobody in.
func (c *Controller) admitting(ctx context.Context, v plan.ServiceView, t maru.ServiceTraffic) maru.ServiceTraffic {
	needed := plan.AuthSecrets(v)
	if len(needed) == 0 {
		return t
	}
	values := map[string][]byte{}
	for key, s := range needed {
		value, err := c.cfg.Secrets(ctx, secretScope(t.Service.Scope, s), s.Name, s.Version)
		if err != nil {
			c.log.Error("a route's secret can't be read: nobody is let in", "service", t.Service, "secret", key, "error", err)
		}
		values[key] = value
	}
	t.Routes, t.Secrets = plan.WithCredentials(t.Routes, values), plan.InTheClear(t.Routes, values)
	return t
}

func (c *Controller) publishNow(ctx context.Context, services map[maru.ServiceID]bool, published map[maru.ServiceID]maru.ServiceTraffic) {
	var set []maru.ServiceTraffic
	var remove []maru.ServiceID
	for id := range services {
		before, was := published[id]
		v, is := c.view.service(id)
		if !is {
			if was {
				remove = append(remove, id)
				delete(published, id)
			}
			continue
		}
		now := c.admitting(ctx, v, plan.Traffic(v))
		if was && reflect.DeepEqual(before, now) {
			continue
		}
		set = append(set, now)
		published[id] = now
	}
	if len(set) > 0 {
		c.publisher.Set(set...)
	}
	if len(remove) > 0 {
		c.publisher.Remove(remove...)
	}
}

// service gives what a service's traffic depends on.
func (v *view) service(id maru.ServiceID) (plan.ServiceView, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.apps[id.Scope]
	if a == nil {
		return plan.ServiceView{}, false
	}
	return a.view(id.Service)
}
