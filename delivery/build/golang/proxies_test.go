package golang

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

func TestParseProxies(t *testing.T) {
	for list, want := range map[string]string{
		"":                                 "[{https://proxy." + goHost + " false} {direct false}]",
		"https://a.example/x/,direct":      "[{https://a.example/x false} {direct false}]",
		"https://a.example|file:///m|off":  "[{https://a.example true} {file:///m true} {off false}]",
		" https://a.example , ,":           "[{https://a.example false}]",
		"ftp://a.example":                  "",
		"a.example":                        "",
		",":                                "",
		"https://ann:secret@a.example,off": "[{https://ann:secret@a.example false} {off false}]",
	} {
		got, err := parseProxies(list)
		if want == "" {
			if maru.KindOf(err) != maru.Invalid {
				t.Errorf("%q: %v, %v", list, got, err)
			}
			continue
		}
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
}

func FuzzParseProxies(f *testing.F) {
	f.Add("https://a.example,direct|off")
	f.Fuzz(func(t *testing.T, list string) {
		all, err := parseProxies(list)
		if (err == nil) != (len(all) > 0) {
			t.Errorf("%v, %v", all, err)
		}
		for _, p := range all {
			if p.base == "" || strings.ContainsAny(p.base, ",|") {
				t.Errorf("%+v", p)
			}
		}
	})
}

// answering gives a proxy that answers everything with a status, and its path.
func answering(t *testing.T, status int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "%d %s", status, r.URL.Path)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestProxiesAreAskedInTurn(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "x"), []byte("of the folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	good, missing, broken := answering(t, 200), answering(t, 404), answering(t, 500)
	for name, c := range map[string]struct {
		list, direct string
		want         string
		kind         maru.Kind
	}{
		"first":                      {good + "," + broken, "", "200 /x", ""},
		"not there":                  {missing + "," + good, "", "200 /x", ""},
		"broken stops":               {broken + "," + good, "", "", maru.Unavailable},
		"broken, and any error goes": {broken + "|" + good, "", "200 /x", ""},
		"nobody has it":              {missing + ",direct", "", "", maru.NotFound},
		"direct":                     {missing + ",direct", good, "200 /x", ""},
		"off":                        {missing + ",off," + good, "", "", maru.Denied},
		"folder":                     {"file://" + folder + "," + good, "", "of the folder", ""},
		"not in the folder":          {"file://" + folder + "/none," + good, "", "200 /x", ""},
		"nobody answers":             {"http://ann:secret@127.0.0.1:1", "", "", maru.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := newFetcher(c.list)
			if err != nil {
				t.Fatal(err)
			}
			body, err := f.open(t.Context(), "/x", c.direct)
			if maru.KindOf(err) != c.kind {
				t.Fatal(err)
			}
			if err != nil {
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("a password is in %q", err)
				}
				return
			}
			defer body.Close()
			if got, err := io.ReadAll(body); err != nil || string(got) != c.want {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	f, err := newFetcher("file://" + folder + "/sub")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := f.open(t.Context(), "/../x", ""); err == nil {
		body.Close()
		t.Error("a path led out of the folder")
	}
}

func TestModuleServer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("networks need root")
	}
	f, err := newFetcher(answering(t, 200))
	if err != nil {
		t.Fatal(err)
	}
	server, err := serveModules(f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer server.close()
	address := strings.TrimPrefix(server.url, "http://")
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("the host reaches a step's module server")
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (conn net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and the thread goes with the goroutine
			if err = unix.Setns(int(server.namespace.Fd()), unix.CLONE_NEWNET); err == nil {
				conn, err = net.Dial("tcp", address)
			}
		}()
		<-done
		return conn, err
	}}}
	for path, want := range map[string]string{
		"/a.example/x/@v/list":               "200 200 /a.example/x/@v/list",
		"/sumdb/sum.example/supported":       "200 ",
		"/sumdb/sum.example/latest":          "200 200 /sumdb/sum.example/latest",
		"/a.example/!upper/@v/v1.0.0%2Bx.go": "200 200 /a.example/!upper/@v/v1.0.0+x.go",
	} {
		resp, err := client.Get(server.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := fmt.Sprintf("%d %s", resp.StatusCode, body); err != nil || got != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	resp, err := client.Post(server.url+"/x", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Error(resp.Status)
	}
}
