package traffic_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/record"
	"github.com/marucloud/maru/traffic/table"
)

// TestCountsAndRecords: requests are counted by route and by edge, and each leaves one record.
func TestCountsAndRecords(t *testing.T) {
	w := newWorld(t, nil)
	callee := web(startInstance(t, "web-1-a", say("hello")))
	addr := freshAddress()
	friend := maru.ServiceTraffic{
		Service: shop.Service("friend"), Networks: map[string][]string{"default/production/shop/default": {"friend"}},
		Endpoints: []maru.Endpoint{{Instance: "friend-1", Addresses: maru.Addresses{V4: addr}}},
	}
	w.set(callee, friend)
	records := w.Records()
	defer records.Close()
	for range 3 {
		if status := w.status("web.test"); status != 200 {
			t.Fatal(status)
		}
	}
	res, err := w.callFrom(addr, netip.AddrPortFrom(callee.VirtualAddress.V4, port)).Get("http://web:8080/")
	text(t, res, err)

	var got []record.Record
	eventually(t, "four records", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		records.Wait(ctx, time.Millisecond)
		if _, lost := records.Read(100, func(r *record.Record) { got = append(got, r.Clone()) }); lost > 0 {
			t.Errorf("%d lost", lost)
		}
		return len(got) == 4
	})
	for _, r := range got { // in the order of their ends
		edge := r.Door == "mesh"
		if r.Status != 200 || r.Service != callee.Service || r.Release != 1 || r.Instance != "web-1-a" || r.Attempts != 1 ||
			edge != (r.From == friend.Service) || edge != (r.Route == "") || r.ID == "" || r.Upstream <= 0 || r.Duration < r.Upstream {
			t.Errorf("%+v", r)
		}
	}
	want := map[table.Key]uint64{
		{Release: 1, Door: "gateway", Class: 2, Host: "web.test"}:  3,
		{Release: 1, Door: "mesh", Class: 2, From: friend.Service}: 1,
	}
	eventually(t, "all are counted", func() bool {
		counted := map[table.Key]uint64{}
		for c := range w.Counts() {
			counted[c.Key] = c.Latency.Total()
			if c.Service != callee.Service || c.Retries != 0 || c.Latency.Sum <= 0 {
				t.Errorf("%+v", c)
			}
		}
		return cmp.Equal(want, counted)
	})
}
