package traffic_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func TestFaults(t *testing.T) {
	w := newWorld(t, nil)
	hello := strings.Repeat("hello", 100)
	s := web(startInstance(t, "a", say(hello)))
	s.Timeout = time.Second
	s.Faults = []maru.Fault{
		{Rule: maru.CallRule{Paths: []string{"/late"}}, Delay: 100 * time.Millisecond},
		{Rule: maru.CallRule{Paths: []string{"/never"}}, Delay: time.Hour},
		{Rule: maru.CallRule{Paths: []string{"/error"}, Methods: []string{"GET"}}, Status: 418},
		{Rule: maru.CallRule{Paths: []string{"/cut"}}, Cut: true},
		{Rule: maru.CallRule{Paths: []string{"/corrupt"}}, Corrupt: true},
		{Rule: maru.CallRule{Paths: []string{"/half"}}, Status: 500, Percent: 50},
		{From: []string{"friend"}, Status: 599},
	}
	from := freshAddress()
	w.set(s, maru.ServiceTraffic{
		Service: shop.Service("friend"), Networks: s.Networks,
		Endpoints: []maru.Endpoint{{Instance: "friend-1", Addresses: maru.Addresses{V4: from}}},
	})
	client := &http.Client{Transport: &http.Transport{}}
	ask := func(method, path string) (int, string) {
		res, err := client.Do(w.request(method, "web.test", path))
		return text(t, res, err)
	}
	if status, body := ask("GET", "/"); status != 200 || body != hello {
		t.Error(status, body)
	}
	began := time.Now()
	if status, body := ask("GET", "/late"); status != 200 || body != hello || time.Since(began) < 100*time.Millisecond {
		t.Error(status, body, time.Since(began))
	}
	if status, _ := ask("GET", "/never"); status != 504 {
		t.Error(status)
	}
	if status, _ := ask("GET", "/error/x"); status != 418 {
		t.Error(status)
	}
	if status, _ := ask("POST", "/error"); status != 200 {
		t.Error(status)
	}
	if status, body := ask("GET", "/corrupt"); status != 200 || body == hello || len(body) != len(hello) {
		t.Error(status, body)
	}
	if res, err := client.Do(w.request("POST", "web.test", "/cut")); err == nil {
		res.Body.Close()
		t.Error("it was answered")
	}
	failed := 0
	for range 200 {
		if status, _ := ask("GET", "/half"); status == 500 {
			failed++
		}
	}
	if failed < 60 || failed > 140 {
		t.Errorf("%d of 200 failed", failed)
	}
	res, err := w.callFrom(from, netip.AddrPortFrom(s.VirtualAddress.V4, port)).Get("http://web:8080/")
	if status, _ := text(t, res, err); status != 599 {
		t.Error(status)
	}
}
