package golang

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// defaultProxies is the Go command's own default.
const defaultProxies = "https://proxy." + goHost + ",direct"

const goHost = "golang.org"

// toolchainOrigin serves the modules of toolchains to those who ask without a proxy.
const toolchainOrigin = "https://go.dev/dl/mod"

// proxy is one entry of GOPROXY.
type proxy struct {
	base     string // without a slash at its end; "direct" or "off"
	anyError bool   // the next entry is asked after any error, not only when there is no such module
}

// parseProxies reads a GOPROXY list.
func parseProxies(list string) ([]proxy, error) {
	if list == "" {
		list = defaultProxies
	}
	var all []proxy
	for list != "" {
		entry, rest := list, ""
		anyError := false
		if i := strings.IndexAny(list, ",|"); i >= 0 {
			entry, rest, anyError = list[:i], list[i+1:], list[i] == '|'
		}
		list = rest
		entry = strings.TrimSuffix(strings.TrimSpace(entry), "/")
		switch {
		case entry == "":
			continue
		case entry == "direct" || entry == "off":
		default:
			u, err := url.Parse(entry)
			if err != nil || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "file" {
				return nil, maru.Errorf(maru.Invalid, "GOPROXY entry %q is not a URL", entry)
			}
		}
		all = append(all, proxy{base: entry, anyError: anyError})
	}
	if len(all) == 0 {
		return nil, maru.Errorf(maru.Invalid, "GOPROXY names no proxy")
	}
	return all, nil
}

// fetcher asks module proxies from the host's network.
type fetcher struct {
	proxies []proxy
	client  *http.Client
}

func newFetcher(goproxy string) (*fetcher, error) {
	proxies, err := parseProxies(goproxy)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = time.Minute
	return &fetcher{proxies: proxies, client: &http.Client{Transport: transport}}, nil
}

// open gives what the proxies have at path, which begins with a slash. NotFound when they agree that
// there is nothing. Direct is asked in place of the entry of that name, unless it is "".
func (f *fetcher) open(ctx context.Context, path, direct string) (io.ReadCloser, error) {
	err := maru.Errorf(maru.NotFound, "%s: no module proxy was asked", path)
	for _, p := range f.proxies {
		base := p.base
		switch {
		case base == "off":
			return nil, maru.Errorf(maru.Denied, "%s: fetching modules is turned off by GOPROXY=off", path)
		case base == "direct" && direct == "":
			continue
		case base == "direct":
			base = direct
		}
		var body io.ReadCloser
		if body, err = f.get(ctx, base, path); err == nil {
			return body, nil
		}
		if !p.anyError && maru.KindOf(err) != maru.NotFound {
			return nil, err
		}
	}
	return nil, err
}

func (f *fetcher) get(ctx context.Context, base, path string) (io.ReadCloser, error) {
	if folder, ok := strings.CutPrefix(base, "file://"); ok {
		return openFile(folder, path)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("module proxy: %w", err)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, maru.Errorf(maru.Unavailable, "module proxy: %w", redact(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	resp.Body.Close()
	kind := maru.Unavailable
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
		kind = maru.NotFound
	}
	return nil, maru.Errorf(kind, "module proxy: %s: %s: %s", path, resp.Status, strings.TrimSpace(string(text)))
}

func openFile(folder, path string) (io.ReadCloser, error) {
	folder, err := url.PathUnescape(folder)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "module proxy: %w", err)
	}
	file, err := os.OpenInRoot(folder, filepath.FromSlash(strings.TrimPrefix(path, "/")))
	if errors.Is(err, os.ErrNotExist) {
		return nil, maru.Errorf(maru.NotFound, "module proxy: %w", err)
	}
	if err != nil {
		return nil, maru.Errorf(maru.Unavailable, "module proxy: %w", err)
	}
	return file, nil
}

// redact keeps a user's password in a proxy's address out of what people see.
func redact(err error) error {
	var failed *url.Error
	if !errors.As(err, &failed) {
		return err
	}
	if u, parseErr := url.Parse(failed.URL); parseErr == nil {
		return fmt.Errorf("%s %s: %w", failed.Op, u.Redacted(), failed.Err)
	}
	return failed.Err
}
