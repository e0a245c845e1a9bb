package network

import (
	"fmt"
	"testing"

	"github.com/marucloud/maru"
)

// many services of three instances each, ten to an app.
func many(n int) []maru.ServiceTraffic {
	r := maru.DefaultRanges()
	var out []maru.ServiceTraffic
	for i := range n {
		scope := maru.Scope{Project: "default", Environment: "production", App: fmt.Sprint("app", i/10)}
		s := maru.ServiceTraffic{
			Service:        scope.Service(fmt.Sprint("service", i%10)),
			VirtualAddress: virtual(10 + i),
			Networks:       map[string][]string{netOf(scope, "default").String(): nil},
			Ports:          []maru.Port{{Port: 80, Protocol: maru.TCP, App: "http"}},
		}
		for j := range 3 {
			offset := uint32(10 + 3*i + j)
			s.Endpoints = append(s.Endpoints, maru.Endpoint{
				Instance: fmt.Sprint(i, "-", j), Release: 1, Ready: true,
				Addresses: maru.Addresses{V4: offsetAddr(r.InstancesV4, offset), V6: offsetAddr(r.InstancesV6, offset)},
			})
		}
		out = append(out, s)
	}
	return out
}

// BenchmarkUpdate is the change of one service's endpoints among many services.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			h := newHost(b, Config{})
			services := many(n)
			h.update(true, services...)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s := services[i%n]
				s.Endpoints = s.Endpoints[:2+i/n%2]
				h.update(false, s)
			}
		})
	}
}

// BenchmarkFullUpdate is what a new process does first: all services at once.
func BenchmarkFullUpdate(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		for _, from := range []string{"nothing", "the same"} {
			b.Run(fmt.Sprintf("services=%d/from=%s", n, from), func(b *testing.B) {
				h := newHost(b, Config{})
				services := many(n)
				if from == "the same" {
					h.update(true, services...)
				}
				for b.Loop() {
					if from == "nothing" {
						b.StopTimer()
						h.update(true)
						check(b, h.prune())
						b.StartTimer()
						h.update(true, services...)
						continue
					}
					b.StopTimer()
					next := newNetwork(b, Config{RunDir: h.cfg.RunDir})
					b.StartTimer()
					check(b, next.Setup(b.Context()))
					check(b, next.Update(maru.TrafficUpdate{Full: true, Services: services}))
				}
			})
		}
	}
}

// BenchmarkAttach is an instance's network from nothing to connected; and gone again, of which only
// the part that is waited for is counted.
func BenchmarkAttach(b *testing.B) {
	h := newHost(b, Config{})
	h.update(true, many(1000)...)
	spec := specOf(maru.Scope{Project: "default", Environment: "production", App: "app1"}.Service("service1"))
	i := 0
	attach := func() string {
		i++
		id := fmt.Sprint("web-1-", i)
		var err error
		spec.Addresses, err = h.Allocate()
		check(b, err)
		_, err = h.Attach(b.Context(), id, spec)
		check(b, err)
		return id
	}
	b.Run("attach", func(b *testing.B) {
		for b.Loop() {
			id := attach()
			b.StopTimer()
			check(b, h.Detach(b.Context(), id))
			check(b, h.clean())
			b.StartTimer()
		}
	})
	b.Run("detach", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			id := attach()
			b.StartTimer()
			check(b, h.Detach(b.Context(), id))
			b.StopTimer()
			check(b, h.clean())
			b.StartTimer()
		}
	})
}

// BenchmarkConnect is a new connection and its first answer, directly and by a virtual address.
func BenchmarkConnect(b *testing.B) {
	h := newHost(b, Config{})
	services := many(1000)
	web, db := shop.Service("web"), shop.Service("db")
	w, d := h.instance("web-1-a", specOf(web)), h.instance("db-1-a", specOf(db))
	h.update(true, append(services, traffic(web, 2000, w), traffic(db, 2001, d))...)
	for _, to := range []struct {
		name string
		maru.Addresses
	}{{"direct", d.Addresses}, {"virtual", virtual(2001)}} {
		b.Run(to.name, func(b *testing.B) {
			for b.Loop() {
				if got := w.ask("tcp", to.V4, 5432); got != "db-1-a "+w.V4.String() {
					b.Fatal(got)
				}
			}
		})
	}
}
