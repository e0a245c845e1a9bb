// Worker brings orders on their way: it takes them from the queue in the store one by one, has them
// paid, packs and ships them. An order that it does not finish, because it stops or falls over, is
// taken up again where it was.
package main

import (
	"context"
	"net/http"
	"os"
	"time"

	"shop/internal/service"
	"shop/internal/storeapi"
)

func main() {
	s := service.New("worker")
	key, err := service.Secret("payments_key")
	if err != nil || key == "" {
		s.Log.Error("the secret payments_key is missing", "error", err)
		os.Exit(1)
	}
	b := &bench{
		log:      s.Log,
		store:    storeapi.Client{URL: service.Env("STORE_URL", "http://store:8080")},
		payments: service.Env("PAYMENTS_URL", "http://payments:8080"),
		key:      key,
		pace:     600 * time.Millisecond,
	}
	work := func(ctx context.Context) error { return service.Forever(ctx, s, "work", b.one) }
	os.Exit(s.Run(http.NotFoundHandler(), nil, work, work))
}
