package policy

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestKeysRotate: a key that is new is asked for, but not at every token that says it has one.
func TestKeysRotate(t *testing.T) {
	var names []string
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		asked++
		var set jose.JSONWebKeySet
		for _, name := range names {
			public, _, err := ed25519.GenerateKey(nil)
			if err != nil {
				t.Error(err)
			}
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: public, KeyID: name})
		}
		_ = json.NewEncoder(rw).Encode(set)
	}))
	defer server.Close()
	s := &keySet{url: server.URL}
	now := time.Now()
	find := func(id string, after time.Duration, keys, questions int) {
		t.Helper()
		now = now.Add(after)
		got, err := s.find(t.Context(), id, now)
		if err != nil || len(got) != keys || asked != questions {
			t.Errorf("%s: %d keys after %d questions, %v", id, len(got), asked, err)
		}
	}
	names = []string{"one"}
	find("one", 0, 1, 1)
	find("two", time.Second, 0, 1)
	names = []string{"one", "two"}
	find("two", keysAgain, 1, 2)
	find("one", time.Second, 1, 2)
	find("three", time.Second, 0, 2)
	names = []string{"two"}
	find("one", keysFresh, 0, 3)
	find("two", time.Second, 1, 3)
}
