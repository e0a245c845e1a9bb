// Smoke does what a customer does: it opens the front page, places an order, sees it live on its way
// until it is shipped, and another one declined. It exits with 0 when all of that works.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

func main() {
	address := flag.String("url", "http://shop.localhost:8080", "where the shop is")
	wait := flag.Duration("wait", time.Minute, "how long it may take, starting included")
	authority := flag.String("ca", "", "file of the certificate authority, for https")
	quiet := flag.Bool("quiet", false, "say nothing when all is well")
	flag.Parse()
	ctx, cancel := context.WithTimeoutCause(context.Background(), *wait, fmt.Errorf("it took longer than %v", *wait))
	defer cancel()
	c, err := newCustomer(*address, *authority)
	if err == nil {
		c.say = func(format string, args ...any) {
			if !*quiet {
				fmt.Printf(format+"\n", args...)
			}
		}
		err = c.visit(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		fmt.Fprintln(os.Stderr, "smoke:", err)
		os.Exit(1)
	}
}

type customer struct {
	url   string
	http  *http.Client
	say   func(format string, args ...any)
	start time.Time
}

func newCustomer(address, authority string) (*customer, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// Names under localhost mean this machine, also where the system's resolver does not know.
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(address); err == nil && strings.HasSuffix(host, ".localhost") {
			address = net.JoinHostPort("127.0.0.1", port)
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	if authority != "" {
		data, err := os.ReadFile(authority)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(data)
	}
	return &customer{url: strings.TrimSuffix(address, "/"), http: &http.Client{Transport: transport}, start: time.Now()}, nil
}

func (c *customer) visit(ctx context.Context) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	c.say("%6.2fs  the front page is there", time.Since(c.start).Seconds())
	seen, err := c.listen(ctx)
	if err != nil {
		return err
	}
	for _, try := range []struct {
		what, product string
		quantity      int
		end           string
	}{
		{"a bag of tea", "sejak", 1, "shipped"},
		{"ten moon jars, which no card covers", "moon-jar", 10, "declined"},
	} {
		id, err := c.order(ctx, try.product, try.quantity)
		if err != nil {
			return fmt.Errorf("order %s: %w", try.what, err)
		}
		c.say("%6.2fs  ordered %s: %s", time.Since(c.start).Seconds(), try.what, id)
		if err := c.follow(ctx, seen, id, try.end); err != nil {
			return fmt.Errorf("follow the order of %s: %w", try.what, err)
		}
	}
	return nil
}

// open waits until the page shows the shelf and the board: every service behind it answers.
func (c *customer) open(ctx context.Context) error {
	for {
		err := c.tryOpen(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *customer) tryOpen(ctx context.Context) error {
	body, err := c.get(ctx, "/")
	if err != nil {
		return err
	}
	for _, part := range []string{"Moon jar", `id="o-`, "/assets/style.css"} {
		if !strings.Contains(body, part) {
			return fmt.Errorf("the front page does not show %q yet", part)
		}
	}
	_, err = c.get(ctx, "/assets/style.css")
	return err
}

func (c *customer) get(ctx context.Context, path string) (string, error) {
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %.200s", path, resp.Status, body)
	}
	return string(body), err
}

func (c *customer) do(ctx context.Context, method, path string, form url.Values) (*http.Response, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Accept", "application/json")
	}
	return c.http.Do(req)
}

// listen gives each order that the live page is told of, as HTML.
func (c *customer) listen(ctx context.Context) (<-chan string, error) {
	resp, err := c.do(ctx, http.MethodGet, "/events", nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("GET /events: %s", resp.Status)
	}
	seen := make(chan string)
	go func() {
		defer close(seen)
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: <li id=\"o-"); ok {
				select {
				case seen <- data:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return seen, nil
}

func (c *customer) order(ctx context.Context, product string, quantity int) (string, error) {
	form := url.Values{"customer": {"Smoke"}, "q-" + product: {fmt.Sprint(quantity)}}
	resp, err := c.do(ctx, http.MethodPost, "/orders", form)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var placed struct{ ID, Error string }
	if err := json.NewDecoder(resp.Body).Decode(&placed); err != nil {
		return "", fmt.Errorf("%s: %w", resp.Status, err)
	}
	if resp.StatusCode != http.StatusCreated || placed.ID == "" {
		return "", fmt.Errorf("%s: %s", resp.Status, placed.Error)
	}
	return placed.ID, nil
}

// follow sees the order on the live page until it is in its last state. What the page missed, because
// a service behind it was replaced meanwhile, is asked for.
func (c *customer) follow(ctx context.Context, seen <-chan string, id, end string) error {
	ask := time.NewTicker(time.Second)
	defer ask.Stop()
	for state := ""; state != end; {
		select {
		case item, ok := <-seen:
			if !ok {
				return errors.New("the live page ended")
			}
			if !strings.HasPrefix(item, id+`"`) {
				continue
			}
			_, state, _ = strings.Cut(item, `class="order `)
			state, _, _ = strings.Cut(state, `"`)
			c.say("%6.2fs    %s", time.Since(c.start).Seconds(), state)
		case <-ask.C:
			if kept, err := c.kept(ctx, id); err == nil && kept != state {
				state = kept
				c.say("%6.2fs    %s, asked", time.Since(c.start).Seconds(), state)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	kept, err := c.kept(ctx, id)
	if err == nil && kept != end {
		err = fmt.Errorf("the order is %q, not %s", kept, end)
	}
	return err
}

func (c *customer) kept(ctx context.Context, id string) (string, error) {
	body, err := c.get(ctx, "/orders/"+id)
	if err != nil {
		return "", err
	}
	var kept struct{ State string }
	err = json.Unmarshal([]byte(body), &kept)
	return kept.State, err
}
