package local_test

import (
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

func TestServes(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	w := newWorkload("web", "1", loadImage(t, e, nil))
	apply(t, e, w)
	o := observe(t, e, w.ID, "ready", ready)
	instance := o.Instances[0]
	body, err := get("http://" + instance.Addresses.V4.String() + ":8080/")
	if err != nil || !strings.HasPrefix(body, "hello from web-1-") {
		t.Fatalf("GET: %q, %v", body, err)
	}
	o = observe(t, e, w.ID, "recognized", func(o maru.Observation) bool { return o.Instances[0].Protocols != nil })
	if p := o.Instances[0].Protocols[8080]; p != "http" {
		t.Errorf("port 8080 speaks %q", p)
	}
}
