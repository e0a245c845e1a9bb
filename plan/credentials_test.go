package plan_test

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

func TestCredentials(t *testing.T) {
	route := func(kind maru.AuthKind) []maru.Route {
		return []maru.Route{{Host: "a.test"}, {Host: "b.test", Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: kind, Secret: "who"}}}}
	}
	sum := sha256.Sum256([]byte("key-of-ada-123456"))
	for _, c := range []struct {
		kind maru.AuthKind
		text string
		want []maru.Credential
	}{
		{maru.BasicAuth, "# who\n\nada:$2y$10$abc\r\nbob:plain\n:$2y$1\neve:$apr1$x\n", []maru.Credential{{User: "ada", Hash: "$2y$10$abc"}}},
		{maru.KeyAuth, "ada  key-of-ada-123456\nbob short\neve\n", []maru.Credential{{User: "ada", Hash: hex.EncodeToString(sum[:])}}},
		{maru.KeyAuth, "", nil},
	} {
		routes := route(c.kind)
		got := plan.WithCredentials(routes, map[string][]byte{"who": []byte(c.text)})
		if !reflect.DeepEqual(got[1].Policy.Auth.Credentials, c.want) || got[0].Policy != nil {
			t.Errorf("%s: %+v", c.text, got[1].Policy.Auth)
		}
		if routes[1].Policy.Auth.Credentials != nil {
			t.Error("the release was changed")
		}
		if strings.Contains(string(maru.Raw(got)), "key-of-ada") {
			t.Error("a key is told to data planes")
		}
	}
}

func TestReleaseHasAuthSecrets(t *testing.T) {
	spec := maru.Service{Routes: []maru.Route{{Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.KeyAuth, Secret: "who"}}}}}
	version := maru.SecretVersion{Name: "who", Version: 3}
	r := maru.Release{Service: shop.Service("web"), Number: 1, Spec: spec, Secrets: map[string]maru.SecretVersion{"who": version, "else": {}}}
	got := plan.AuthSecrets(plan.ServiceView{State: maru.ServiceState{Release: 1}, Releases: map[int]maru.Release{1: r}})
	if len(got) != 1 || got["who"] != version {
		t.Errorf("%v", got)
	}
}

// TestSecretsInTheClear: only what has to be known as it is is told as it is.
func TestSecretsInTheClear(t *testing.T) {
	route := func(kind maru.AuthKind, secret string) maru.Route {
		return maru.Route{Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: kind, Secret: secret}}}
	}
	routes := []maru.Route{{}, route(maru.KeyAuth, "keys"), route(maru.LoginAuth, "login"), route(maru.LoginAuth, "gone"), route(maru.LoginAuth, "")}
	values := map[string][]byte{"keys": []byte("ada key-of-ada-123456"), "login": []byte("client secret\n")}
	if got := plan.InTheClear(routes, values); !reflect.DeepEqual(got, map[string]string{"login": "client secret"}) {
		t.Errorf("%v", got)
	}
	if got := plan.InTheClear(routes[:2], values); got != nil {
		t.Errorf("%v", got)
	}
	if got := plan.WithCredentials(routes, values); got[2].Policy.Auth.Credentials != nil {
		t.Error("a client's secret is read as a list of users")
	}
}
