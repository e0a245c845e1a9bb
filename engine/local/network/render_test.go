package network

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

func endpoints(release, n int) []maru.Endpoint {
	var out []maru.Endpoint
	for i := range n {
		out = append(out, maru.Endpoint{
			Instance: fmt.Sprintf("x-%d-%d", release, i), Release: release, Ready: true,
			Addresses: maru.Addresses{V4: netip.AddrFrom4([4]byte{10, 210, byte(release), byte(i)})},
		})
	}
	return out
}

func TestBalance(t *testing.T) {
	for _, tt := range []struct {
		name    string
		serving []maru.Weight
		counts  map[int]int // endpoints by release
		want    map[int]int // slots by release
	}{
		{"none", nil, nil, map[int]int{}},
		{"evenly", nil, map[int]int{1: 3, 2: 1}, map[int]int{1: 3, 2: 1}},
		{"one release", []maru.Weight{{Release: 1, Weight: 100}}, map[int]int{1: 3, 2: 1}, map[int]int{1: 3}},
		{"halves", []maru.Weight{{Release: 1, Weight: 50}, {Release: 2, Weight: 50}}, map[int]int{1: 3, 2: 1}, map[int]int{1: 3, 2: 3}},
		{"canary", []maru.Weight{{Release: 1, Weight: 95}, {Release: 2, Weight: 5}}, map[int]int{1: 1, 2: 1}, map[int]int{1: 19, 2: 1}},
		{"canary of several", []maru.Weight{{Release: 1, Weight: 95}, {Release: 2, Weight: 5}}, map[int]int{1: 2, 2: 2}, map[int]int{1: 38, 2: 2}},
		{"nobody ready", []maru.Weight{{Release: 3, Weight: 1}}, map[int]int{1: 2}, map[int]int{}},
		{"one of them has nobody ready", []maru.Weight{{Release: 3, Weight: 99}, {Release: 1, Weight: 1}}, map[int]int{1: 2}, map[int]int{1: 2}},
		{"no weight", []maru.Weight{{Release: 1, Weight: 0}, {Release: 2, Weight: 7}}, map[int]int{1: 2, 2: 2}, map[int]int{2: 2}},
		{"twice", []maru.Weight{{Release: 1, Weight: 1}, {Release: 1, Weight: 9}}, map[int]int{1: 2}, map[int]int{1: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := maru.ServiceTraffic{Serving: tt.serving}
			for _, release := range slices.Sorted(maps.Keys(tt.counts)) {
				s.Endpoints = append(s.Endpoints, endpoints(release, tt.counts[release])...)
			}
			got := map[int]int{}
			for _, addr := range balance(s, four) {
				got[int(addr.As4()[2])]++
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if slots := balance(s, six); len(slots) > 0 {
				t.Errorf("IPv6 slots without addresses: %v", slots)
			}
		})
	}
}

// Shares are kept to one slot in maxSlots, endpoints of a release to one slot, and nobody is left out.
func TestBalanceIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := maru.ServiceTraffic{}
		counts, weights, sum := map[int]int{}, map[int]int{}, 0
		for release := range rapid.IntRange(1, 4).Draw(t, "releases") {
			w := rapid.IntRange(1, 1000).Draw(t, "weight")
			n := rapid.IntRange(1, 40).Draw(t, "endpoints")
			s.Serving = append(s.Serving, maru.Weight{Release: release, Weight: w})
			s.Endpoints = append(s.Endpoints, endpoints(release, n)...)
			counts[release], weights[release] = n, w
			sum += w
		}
		slots := balance(s, four)
		if len(slots) > maxSlots+len(s.Endpoints) {
			t.Fatalf("%d slots", len(slots))
		}
		byRelease, byAddr := map[int]int{}, map[netip.Addr]int{}
		for _, a := range slots {
			byRelease[int(a.As4()[2])]++
			byAddr[a]++
		}
		for _, e := range s.Endpoints {
			each := float64(byRelease[e.Release]) / float64(counts[e.Release])
			if got := float64(byAddr[e.Addresses.V4]); got < 1 || math.Abs(got-each) > 1 {
				t.Fatalf("%s has %v slots, others of its release %v", e.Instance, got, each)
			}
		}
		for release, w := range weights {
			want, got := float64(w)/float64(sum), float64(byRelease[release])/float64(len(slots))
			if slack := float64(counts[release]+2)/maxSlots + float64(len(s.Endpoints))/maxSlots; math.Abs(want-got) > slack {
				t.Fatalf("release %d has %v of the slots, want %v", release, got, want)
			}
		}
	})
}

// drawTraffic draws one of few services, so that steps meet each other.
func drawTraffic(t *rapid.T) maru.ServiceTraffic {
	id := shop.Service(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "service"))
	s := maru.ServiceTraffic{Service: id, VirtualAddress: virtual(10 + int(id.Service[0]-'a')), Networks: map[string][]string{}}
	for _, n := range rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y", "z"}), 0, 3).Draw(t, "networks") {
		s.Networks[netOf(shop, n).String()] = nil
	}
	s.Allow = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "gateway"}), 0, 3).Draw(t, "allow")
	if rapid.Bool().Draw(t, "limited") {
		s.AllowCalls = map[string][]maru.CallRule{"a": {{Methods: []string{"GET"}}}}
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		// Addresses of two services may be the same for a moment.
		offset := uint32(100 + 3*int(id.Service[0]-'a') + i)
		s.Endpoints = append(s.Endpoints, maru.Endpoint{
			Instance: fmt.Sprint(id.Service, i), Release: i % 2, Ready: rapid.Bool().Draw(t, "ready"), Draining: rapid.Bool().Draw(t, "draining"),
			Addresses: maru.Addresses{V4: offsetAddr(maru.DefaultRanges().InstancesV4, offset), V6: offsetAddr(maru.DefaultRanges().InstancesV6, offset)},
		})
	}
	if rapid.Bool().Draw(t, "http") {
		s.Ports = []maru.Port{{Port: 80, Protocol: maru.TCP, App: "http"}}
	}
	return s
}

func drawUpdate(t *rapid.T) maru.TrafficUpdate {
	u := maru.TrafficUpdate{Full: rapid.IntRange(0, 9).Draw(t, "full") == 0}
	named := map[maru.ServiceID]bool{}
	for range rapid.IntRange(1, 3).Draw(t, "services") {
		if s := drawTraffic(t); !named[s.Service] {
			named[s.Service] = true
			u.Services = append(u.Services, s)
		}
	}
	if id := shop.Service("b"); !named[id] && rapid.Bool().Draw(t, "remove") {
		u.Removed = []maru.ServiceID{id}
	}
	return u
}

func (st *tableState) apply(n *Network, u maru.TrafficUpdate) *change {
	c := st.begin()
	n.apply(c, u)
	return c
}

// Whatever steps come, what remains is what the services as last told ask for, and a step that is
// undone leaves no trace.
func TestStateConverges(t *testing.T) {
	n := newNetwork(t, Config{})
	rapid.Check(t, func(t *rapid.T) {
		n.state = newTableState()
		wanted := map[maru.ServiceID]maru.ServiceTraffic{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			u := drawUpdate(t)
			before := fmt.Sprint(n.state.elements, n.state.policies)
			n.state.apply(n, u).undo()
			if after := fmt.Sprint(n.state.elements, n.state.policies); after != before {
				t.Fatalf("undone:\n%s\nwas\n%s", after, before)
			}
			n.state.apply(n, u)
			if u.Full {
				clear(wanted)
			}
			for _, id := range u.Removed {
				delete(wanted, id)
			}
			for _, s := range u.Services {
				wanted[s.Service] = s
			}
		}
		want := map[maru.ServiceID]*part{}
		policies := map[policy]int{}
		claims := map[elementKey][]owned{}
		for id, s := range wanted {
			want[id] = n.render(s)
			policies[want[id].policy]++
			policies[want[id].reach]++
			for _, e := range want[id].elements {
				claims[e.elementKey] = append(claims[e.elementKey], owned{e.value, id})
			}
		}
		if diff := cmp.Diff(policies, n.state.policies, cmp.AllowUnexported(policy{})); diff != "" {
			t.Fatal(diff)
		}
		for k, o := range n.state.elements {
			if !slices.Contains(claims[k], o) {
				t.Fatalf("%q is %+v, which nobody wants", k, o)
			}
		}
		for k, c := range claims {
			if _, ok := n.state.elements[k]; !ok && len(c) == 1 && !sharedOnce(k) {
				t.Fatalf("%q is missing", k)
			}
		}
		if remove, add := n.state.apply(n, maru.TrafficUpdate{}).difference(); len(remove)+len(add) > 0 {
			t.Fatal("it does not rest")
		}
	})
}

// sharedOnce tells whether two services may have claimed the element at some time: the one that
// lost it has it again with its next update.
func sharedOnce(k elementKey) bool { return setKind(k.set) == setReach }

func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom([]netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.210.0.0/16"), netip.MustParsePrefix("192.168.7.128/25"),
			netip.MustParsePrefix("fd00::/16"), netip.MustParsePrefix("fd00:1:2:3::/64"),
		}).Draw(t, "prefix")
		size := uint32(1) << min(24, p.Addr().BitLen()-p.Bits())
		offset := rapid.Uint32Range(0, size-1).Draw(t, "offset")
		a := offsetAddr(p, offset)
		back, ok := addrOffset(p, a)
		if !p.Contains(a) || !ok || back != offset {
			t.Fatalf("%d in %v is %v, and back %d", offset, p, a, back)
		}
	})
	if _, ok := addrOffset(netip.MustParsePrefix("fd00::/16"), netip.MustParseAddr("fd00::1:0:0:0")); ok {
		t.Error("an offset that is too large is taken")
	}
	if _, ok := addrOffset(netip.MustParsePrefix("10.0.0.0/8"), netip.Addr{}); ok {
		t.Error("no address is taken")
	}
}

func TestAllocator(t *testing.T) {
	r := maru.DefaultRanges()
	r.InstancesV4 = netip.MustParsePrefix("10.1.2.0/28")
	now := time.Now()
	a := newAllocator(r)
	first, err := a.allocate(now)
	check(t, err)
	a.reserve(maru.Addresses{V4: netip.MustParseAddr("10.1.2.7")})
	a.reserve(maru.Addresses{V4: netip.MustParseAddr("10.9.9.9")}) // not ours
	seen := map[netip.Addr]bool{first.V4: true, netip.MustParseAddr("10.1.2.7"): true}
	for range 12 {
		next, err := a.allocate(now)
		if first.V4 == netip.MustParseAddr("10.1.2.7") && len(seen) == 14 {
			break
		}
		check(t, err)
		if seen[next.V4] || next.V4.As4()[3] == 0 || next.V4.As4()[3] == 15 {
			t.Errorf("%v twice or not for use", next.V4)
		}
		seen[next.V4] = true
	}
	for len(a.used) < 14 {
		_, err := a.allocate(now)
		check(t, err)
	}
	if _, err := a.allocate(now); maru.KindOf(err) != maru.Exhausted || maru.HintOf(err) == "" {
		t.Error(err)
	}
	a.release(first, now)
	a.release(first, now)
	if _, err := a.allocate(now.Add(reuseDelay - 1)); maru.KindOf(err) != maru.Exhausted {
		t.Error("reused too soon")
	}
	again, err := a.allocate(now.Add(reuseDelay))
	if err != nil || again != first {
		t.Errorf("%v %v", again, err)
	}
}
