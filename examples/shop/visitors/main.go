// Visitors look at the shop's front page, so many times a second, until they are interrupted. Then they say
// how many pages they saw, and how many times they did not see one.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	gateway := flag.String("gateway", "http://127.0.0.1:8080", "where the gateway is")
	host := flag.String("host", "shop.localhost", "the shop's name")
	rate := flag.Int("rate", 100, "visits a second")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	seen, failed := visit(ctx, *gateway, *host, *rate)
	fmt.Printf("visitors saw %d pages, and %d times something else\n", seen, failed)
}

func visit(ctx context.Context, gateway, host string, rate int) (seen, failed int64) {
	var good, bad atomic.Int64
	var visits sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			visits.Wait()
			return good.Load(), bad.Load()
		case <-tick.C:
			visits.Go(func() {
				if look(gateway, host) {
					good.Add(1)
				} else {
					bad.Add(1)
				}
			})
		}
	}
}

func look(gateway, host string) bool {
	request, err := http.NewRequest(http.MethodGet, gateway, nil)
	if err != nil {
		return false
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}
