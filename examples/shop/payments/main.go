// Payments stands for a bank. It takes its time, is busy now and then, and declines what is too dear:
// the shop has to live with all of that.
package main

import (
	"crypto/subtle"
	"hash/fnv"
	"net/http"
	"os"
	"sync"
	"time"

	"shop/internal/service"
)

func main() {
	s := service.New("payments")
	key, err := service.Secret("payments_key")
	if err != nil || key == "" {
		s.Log.Error("the secret payments_key is missing", "error", err)
		os.Exit(1)
	}
	os.Exit(s.Run(newBank(key, 250*time.Millisecond).handler(), nil))
}

// limit is what a card covers, in cents.
const limit = 50000

// Charge is what is asked. The same order is charged once, however often it is asked for.
type Charge struct {
	Order  string `json:"order"`
	Amount int    `json:"amount"`
}

// Receipt is the answer.
type Receipt struct {
	Approved bool   `json:"approved"`
	Reason   string `json:"reason,omitempty"`
}

type bank struct {
	key   string
	delay time.Duration
	mu    sync.Mutex
	seen  map[string]int // how often an order was asked for
}

func newBank(key string, delay time.Duration) *bank {
	return &bank{key: key, delay: delay, seen: map[string]int{}}
}

func (b *bank) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /charge", b.charge)
	return mux
}

func (b *bank) charge(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+b.key)) != 1 {
		service.Fail(w, http.StatusUnauthorized, "the key is wrong")
		return
	}
	var c Charge
	if !service.Read(w, r, &c) {
		return
	}
	if c.Order == "" || c.Amount <= 0 {
		service.Fail(w, http.StatusBadRequest, "an order and a positive amount are needed")
		return
	}
	select {
	case <-time.After(b.delay):
	case <-r.Context().Done():
		return
	}
	if b.ask(c.Order) == 1 && busy(c.Order) {
		service.Fail(w, http.StatusServiceUnavailable, "the bank is busy")
		return
	}
	if c.Amount > limit {
		service.Reply(w, http.StatusOK, Receipt{Reason: "the card does not cover it"})
		return
	}
	service.Reply(w, http.StatusOK, Receipt{Approved: true})
}

func (b *bank) ask(order string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.seen) > 10000 {
		clear(b.seen)
	}
	b.seen[order]++
	return b.seen[order]
}

// busy picks one order in five, always the same ones.
func busy(order string) bool {
	h := fnv.New32a()
	h.Write([]byte(order))
	return h.Sum32()%5 == 0
}
