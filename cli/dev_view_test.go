package cli

import (
	"bytes"
	"encoding/json"
	"testing"

	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func TestDevViewShowsWholeLines(t *testing.T) {
	var out bytes.Buffer
	v := newDevView(&shell{Env: Env{Stdout: &out}}, []string{"web"})
	for _, e := range []*maruv1.LogEntry{
		{Workload: "default/dev/shop/web/3", Instance: "a", Line: []byte("one "), Partial: true},
		{Workload: "default/dev/shop/web/3", Instance: "b", Line: []byte("other")},
		{Workload: "default/dev/shop/web/3", Instance: "a", Line: []byte("line")},
	} {
		if err := v.log(e); err != nil {
			t.Fatal(err)
		}
	}
	v.say("", "done")
	if got, want := out.String(), "web  | other\nweb  | one line\nmaru > done\n"; got != want {
		t.Errorf("it shows %q, not %q", got, want)
	}
}

func TestDevViewForPrograms(t *testing.T) {
	var out bytes.Buffer
	v := newDevView(&shell{Env: Env{Stdout: &out}, output: "json"}, nil)
	v.line("web", "build", "main.go:1:2: undefined: x\n")
	var e devEvent
	if err := json.Unmarshal(out.Bytes(), &e); err != nil {
		t.Fatal(err)
	}
	if e.Event != "build" || e.Service != "web" || e.Message != "main.go:1:2: undefined: x" || e.Time.IsZero() {
		t.Errorf("the event is %+v", e)
	}
}
