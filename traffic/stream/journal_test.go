package stream

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

var shop = maru.Scope{Project: "p", Environment: "e", App: "shop"}

func state(name, empty string) maru.ServiceTraffic {
	return maru.ServiceTraffic{Service: shop.Service(name), Empty: empty, Endpoints: []maru.Endpoint{{Instance: name + "-1", Ready: true}}}
}

func byID(u maru.TrafficUpdate) map[maru.ServiceID]maru.ServiceTraffic {
	m := map[maru.ServiceID]maru.ServiceTraffic{}
	for _, s := range u.Services {
		m[s.Service] = s
	}
	return m
}

func valuesOf(m map[maru.ServiceID]maru.ServiceTraffic) iter.Seq[maru.ServiceTraffic] {
	return maps.Values(m)
}

// TestJournalKeepsTheState writes at random, whole and in parts, and reads what should be there.
func TestJournalKeepsTheState(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		_ = os.Remove(filepath.Join(folder, journalName))
		j, err := openJournal(folder)
		if err != nil {
			t.Fatal(err)
		}
		defer j.close()
		want := map[maru.ServiceID]maru.ServiceTraffic{}
		if err := j.write(valuesOf(want), maru.TrafficUpdate{}); err != nil {
			t.Fatal(err)
		}
		for i := range rapid.IntRange(0, 20).Draw(t, "steps") {
			var u maru.TrafficUpdate
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				s := state(fmt.Sprint("s", rapid.IntRange(0, 5).Draw(t, "service")), fmt.Sprint(i))
				if rapid.Bool().Draw(t, "remove") {
					u.Removed = append(u.Removed, s.Service)
					delete(want, s.Service)
					u.Services = slices.DeleteFunc(u.Services, func(o maru.ServiceTraffic) bool { return o.Service == s.Service })
				} else if !slices.Contains(u.Removed, s.Service) {
					u.Services = append(u.Services, s)
					want[s.Service] = s
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "anew") == 0 {
				err = j.write(valuesOf(want), maru.TrafficUpdate{})
			} else {
				err = j.append(u)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		got, err := j.load()
		if err != nil || !got.Full {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, byID(got), alike...); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestJournalOfAnyLength cuts a journal at every byte: what is read is what had been written by then.
func TestJournalOfAnyLength(t *testing.T) {
	folder := t.TempDir()
	j, err := openJournal(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	if err := j.write(valuesOf(map[maru.ServiceID]maru.ServiceTraffic{shop.Service("a"): state("a", "")}), maru.TrafficUpdate{}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := j.append(maru.TrafficUpdate{Services: []maru.ServiceTraffic{state("a", fmt.Sprint(i)), state(fmt.Sprint("s", i), "")}}); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		u := readJournal(bytes.NewReader(whole[:n]))
		lines := bytes.Count(whole[:n], []byte("\n"))
		if want := max(0, lines-1); len(u.Services) != want {
			t.Fatalf("%d bytes, %d lines: %d services", n, lines, len(u.Services))
		}
		// Garbage behind, as after the machine lost power, changes nothing.
		if g := readJournal(bytes.NewReader(append(bytes.Clone(whole[:n]), make([]byte, 100)...))); len(g.Services) != len(u.Services) {
			t.Fatalf("%d bytes and garbage: %d services, not %d", n, len(g.Services), len(u.Services))
		}
	}
}

func TestJournalOfAnotherForm(t *testing.T) {
	for _, text := range []string{"", "x", "maru traffic 2\nwhat the future brings\n", strings.Repeat("y", 1<<20)} {
		if u := readJournal(strings.NewReader(text)); !u.Full || len(u.Services) != 0 {
			t.Errorf("%.20q: %v", text, u)
		}
	}
}

func FuzzJournal(f *testing.F) {
	var b bytes.Buffer
	b.WriteString(journalHeader)
	for _, u := range []maru.TrafficUpdate{
		{Services: []maru.ServiceTraffic{state("a", ""), state("b", "")}},
		{Removed: []maru.ServiceID{shop.Service("a")}, Services: []maru.ServiceTraffic{state("c", "")}},
	} {
		if err := seal(&b, frame{TrafficUpdate: u}); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(b.Bytes())
	f.Add([]byte(journalHeader + "00000000 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		u := readJournal(bytes.NewReader(data))
		if len(byID(u)) != len(u.Services) {
			t.Fatal("a service twice")
		}
	})
}

// FuzzJournalLine reaches what stands behind the checksum.
func FuzzJournalLine(f *testing.F) {
	f.Add([]byte(`{"services":[{"service":"p/e/shop/a"}],"removed":["p/e/shop/a"]}`))
	f.Add([]byte(`{"services":[{"service":"p"}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.ContainsAny(line, "\n") {
			return
		}
		text := journalHeader + fmt.Sprintf("%08x %s\n", checksum(line), line)
		u := readJournal(strings.NewReader(text + text[len(journalHeader):]))
		if len(byID(u)) != len(u.Services) {
			t.Fatal("a service twice")
		}
	})
}

func FuzzFrames(f *testing.F) {
	var b bytes.Buffer
	if err := writeFrames(&b, maru.TrafficUpdate{Version: 3, Full: true, Services: []maru.ServiceTraffic{state("a", "")}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"version":1,"more":true}{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newFrameReader(bytes.NewReader(data))
		for {
			u, err := r.next()
			if err != nil {
				return
			}
			var again bytes.Buffer
			if err := writeFrames(&again, u); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzCertificates(f *testing.F) {
	f.Add([]byte(`[{"chain":"YQ==","key":"Yg=="}]`))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = decodeCertificates(data) })
}

var alike = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}
