package token

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/store/memory"
)

func create(t *testing.T, tokens *Tokens, wanted maru.Token) (maru.Token, string) {
	t.Helper()
	if wanted.Role == "" {
		wanted.Role = maru.RoleAdmin
	}
	text, token, err := tokens.CreateToken(t.Context(), "ann", wanted)
	if err != nil {
		t.Fatal(err)
	}
	return token, text
}

func wantKind(t *testing.T, what string, err error, want maru.Kind) {
	t.Helper()
	if maru.KindOf(err) != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

func TestLifeOfAToken(t *testing.T) {
	store := memory.New()
	tokens := New(store)
	scope := maru.Scope{Project: "default", App: "shop"}
	token, text := create(t, tokens, maru.Token{Name: "ci", Scope: scope, Role: maru.RoleDeploy})
	create(t, tokens, maru.Token{Name: "a"})
	if token.Name != "ci" || token.Scope != scope || token.Role != maru.RoleDeploy || token.By != "ann" || token.Created.IsZero() {
		t.Errorf("made %+v", token)
	}
	got, err := tokens.Authenticate(t.Context(), text)
	if err != nil || got.ID != token.ID || got.Name != token.Name || got.Scope != token.Scope {
		t.Errorf("authenticated %+v, %v; want %+v", got, err, token)
	}
	objects, _, err := store.List(t.Context(), "token", token.ID)
	if err != nil || len(objects) != 1 || strings.Contains(string(objects[0].Data), text[len("maru_")+idSize+1:]) {
		t.Errorf("kept %v, %v", objects, err)
	}
	listed, err := tokens.Tokens(t.Context())
	if err != nil || len(listed) != 2 || listed[0].Name != "a" || listed[1].ID != token.ID || listed[1].LastUsed.IsZero() {
		t.Errorf("listed %+v, %v", listed, err)
	}
	_, _, err = tokens.CreateToken(t.Context(), "ann", maru.Token{Name: "ci", Role: maru.RoleRead})
	wantKind(t, "a second one of the name", err, maru.Exists)
	if err := tokens.RevokeToken(t.Context(), "bob", token.ID); err != nil {
		t.Fatal(err)
	}
	_, err = tokens.Authenticate(t.Context(), text)
	wantKind(t, "authenticate after revocation", err, maru.Unauthenticated)
	wantKind(t, "revoke again", tokens.RevokeToken(t.Context(), "bob", token.ID), maru.NotFound)
	events, _, err := store.List(t.Context(), "event", "default//shop/")
	if err != nil || len(events) != 2 || !strings.Contains(string(events[0].Data), "token-created") || !strings.Contains(string(events[1].Data), `"by":"bob"`) {
		t.Errorf("recorded %v, %v", events, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	tokens := New(memory.New())
	for what, wanted := range map[string]maru.Token{
		"no name":     {Role: maru.RoleRead},
		"odd name":    {Name: "a b", Role: maru.RoleRead},
		"no role":     {Name: "a"},
		"odd role":    {Name: "a", Role: "root"},
		"in the past": {Name: "a", Role: maru.RoleRead, Expires: time.Now().Add(-time.Second)},
	} {
		_, _, err := tokens.CreateToken(t.Context(), "ann", wanted)
		wantKind(t, what, err, maru.Invalid)
	}
}

func TestExpiryAndLastUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		tokens := New(store)
		token, text := create(t, tokens, maru.Token{Name: "ci", Expires: time.Now().Add(time.Hour)})
		writes := func() maru.Revision {
			_, revision, err := store.List(t.Context(), "token", "")
			if err != nil {
				t.Fatal(err)
			}
			return revision
		}
		before := writes()
		for range 50 {
			if _, err := tokens.Authenticate(t.Context(), text); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if n := writes() - before; n != 5 {
			t.Errorf("%d writes for 50 requests in 50 minutes", n)
		}
		listed, err := tokens.Tokens(t.Context())
		if err != nil || time.Since(listed[0].LastUsed) > usePrecision || listed[0].LastUsed.Before(token.Created) {
			t.Errorf("listed %+v, %v", listed, err)
		}
		time.Sleep(10 * time.Minute)
		_, err = tokens.Authenticate(t.Context(), text)
		wantKind(t, "after an hour", err, maru.Unauthenticated)
	})
}

func TestAuthenticateFromMany(t *testing.T) {
	tokens := New(memory.New())
	_, text := create(t, tokens, maru.Token{Name: "ci"})
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := tokens.Authenticate(t.Context(), text); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestCreateTheSameFromMany(t *testing.T) {
	tokens := New(memory.New())
	var all sync.WaitGroup
	made := make(chan string, 16)
	for range cap(made) {
		all.Go(func() {
			text, _, err := tokens.CreateToken(t.Context(), "ann", maru.Token{Name: "ci", Role: maru.RoleRead})
			if err == nil {
				made <- text
			} else if maru.KindOf(err) != maru.Exists {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(made) != 1 {
		t.Errorf("%d tokens of one name", len(made))
	}
	token, err := tokens.Authenticate(t.Context(), <-made)
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.RevokeToken(t.Context(), "bob", token.ID); err != nil {
		t.Fatal(err)
	}
	create(t, tokens, maru.Token{Name: "ci"})
}

func TestAuthenticateRefuses(t *testing.T) {
	tokens := New(memory.New())
	_, text := create(t, tokens, maru.Token{Name: "ci"})
	forged := text[:len(text)-checksumSize-1] + "a"
	if forged == text[:len(text)-checksumSize] {
		forged = text[:len(text)-checksumSize-1] + "b"
	}
	_, stranger := generate()
	for what, text := range map[string]string{
		"nothing":         "",
		"no token":        "hunter2",
		"prefix only":     "maru_",
		"truncated":       text[:len(text)-1],
		"longer":          text + "a",
		"upper case":      strings.ToUpper(text),
		"a space":         text + " ",
		"a wrong letter":  forged + text[len(text)-checksumSize:],
		"forged checksum": forged + checksum(forged),
		"unknown":         stranger,
	} {
		_, err := tokens.Authenticate(t.Context(), text)
		wantKind(t, what, err, maru.Unauthenticated)
		if maru.HintOf(err) == "" {
			t.Errorf("%s: no hint", what)
		}
		if len(text) > len(prefix) && strings.Contains(err.Error()+maru.HintOf(err), text) {
			t.Errorf("%s: the error shows the text: %v", what, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, text := generate()
	f.Add(text)
	f.Add("maru_")
	f.Add("maru_aaaaaaaaaa_" + strings.Repeat("a", 59))
	f.Fuzz(func(t *testing.T, text string) {
		id, err := Parse(text)
		if err != nil {
			if id != "" || maru.KindOf(err) != maru.Unauthenticated {
				t.Errorf("%q, %v", id, err)
			}
			return
		}
		if len(id) != idSize || !strings.HasPrefix(text, prefix+id+"_") || !strings.HasSuffix(text, checksum(text[:textSize-checksumSize])) {
			t.Errorf("parsed %q as %q", text, id)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	tokens := New(memory.New())
	text, _, err := tokens.CreateToken(b.Context(), "ann", maru.Token{Name: "ci", Role: maru.RoleRead})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := tokens.Authenticate(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
}
