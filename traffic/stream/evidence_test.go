package stream

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func TestEvidenceReachesTheServer(t *testing.T) {
	var got []maru.Evidence
	p := NewPublisher(PublisherConfig{Evidence: func(e maru.Evidence) { got = append(got, e) }})
	s := NewServer(p, slog.New(slog.DiscardHandler))
	sent := []maru.Evidence{{
		Service: maru.Scope{Project: "p", Environment: "e", App: "a"}.Service("web"), Old: 1, New: 2, Lost: 3,
		Records: []maru.EvidenceRecord{{New: true, Failed: true, At: time.Unix(1, 2).UTC(), Weight: 0.05}, {Latency: time.Second, At: time.Unix(3, 4).UTC(), Weight: 0.05}},
	}}
	ask := func(body []byte) int {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, evidencePath, bytes.NewReader(body)))
		return w.Code
	}
	data, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	if code := ask(data); code != http.StatusNoContent || !reflect.DeepEqual(got, sent) {
		t.Errorf("status %d: %+v", code, got)
	}
	if code := ask([]byte(`[{"records":"x"}]`)); code != http.StatusBadRequest {
		t.Errorf("nonsense is answered %d", code)
	}
}

func FuzzEvidence(f *testing.F) {
	f.Add([]byte(`[{"service":"p/e/a/web","old":1,"new":2,"records":[{"n":true,"t":"2026-01-02T03:04:05Z","w":0.05}]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := readEvidence(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := json.Marshal(all)
		if err != nil {
			return // a time that no form has
		}
		if _, err := readEvidence(bytes.NewReader(again)); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
