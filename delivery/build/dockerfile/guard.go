package dockerfile

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/marucloud/maru"
)

// guardedTransport refuses connections to forbidden addresses, after names were resolved. Proxies
// that the operator set are his own choice.
func guardedTransport(forbidden func(netip.Addr) bool) http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	guarded := net.Dialer{Timeout: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err == nil && forbidden(to.Addr().Unmap()) {
			return maru.Errorf(maru.Denied, "a build may not fetch from %s", to)
		}
		return nil
	}}
	free := net.Dialer{Timeout: 30 * time.Second}
	proxies := proxyAddresses()
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if proxies[address] {
			return free.DialContext(ctx, network, address)
		}
		return guarded.DialContext(ctx, network, address)
	}
	return t
}

func proxyAddresses() map[string]bool {
	env := httpproxy.FromEnvironment()
	all := map[string]bool{}
	for _, proxy := range []string{env.HTTPProxy, env.HTTPSProxy} {
		u, err := url.Parse(proxy)
		if err != nil || u.Host == "" {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443", "socks5": "1080"}[u.Scheme]
		}
		all[net.JoinHostPort(u.Hostname(), port)] = true
	}
	return all
}
