// Package storeapi is how services speak to the store.
package storeapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"shop/internal/service"
)

// Client speaks to the store at a URL.
type Client struct{ URL string }

// Entry is a key with its value and the revision of its last change.
type Entry struct {
	Key      string          `json:"key"`
	Value    json.RawMessage `json:"value"`
	Revision int64           `json:"revision"`
}

// Op is a part of a commit. With Expect, the key must have that revision: 0 is none.
type Op struct {
	Put    string          `json:"put,omitempty"`
	Delete string          `json:"delete,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"`
	Expect *int64          `json:"expect,omitempty"`
}

// Put sets a key.
func Put(key string, value any) Op {
	data, err := json.Marshal(value)
	if err != nil {
		panic("storeapi: " + err.Error()) // the shop's own types always encode
	}
	return Op{Put: key, Value: data}
}

// Delete removes a key.
func Delete(key string) Op { return Op{Delete: key} }

// At makes the op happen only if the key is at the revision; 0: only if it is not there.
func (o Op) At(revision int64) Op {
	o.Expect = &revision
	return o
}

// Commit does all or nothing. A StatusError with 409 tells that an expectation did not hold.
func (c Client) Commit(ctx context.Context, ops ...Op) error {
	_, err := service.Call(ctx, http.MethodPost, c.URL+"/v1/commit", nil, map[string]any{"ops": ops}, nil)
	return err
}

// Get gives an entry, or a StatusError with 404.
func (c Client) Get(ctx context.Context, key string) (Entry, error) {
	var e Entry
	_, err := service.Call(ctx, http.MethodGet, c.URL+"/v1/entries/"+key, nil, nil, &e)
	return e, err
}

// List gives the last entries under a prefix by key, the last one first; 0 is all.
func (c Client) List(ctx context.Context, prefix string, limit int) ([]Entry, error) {
	var found struct{ Entries []Entry }
	query := url.Values{"prefix": {prefix}, "limit": {strconv.Itoa(limit)}, "reverse": {"1"}}
	_, err := service.Call(ctx, http.MethodGet, c.URL+"/v1/entries?"+query.Encode(), nil, nil, &found)
	return found.Entries, err
}

// Take waits for an entry under a prefix and has it for the time of the lease. Key is "" when there
// was none.
func (c Client) Take(ctx context.Context, prefix string, lease, wait time.Duration) (Entry, error) {
	var e Entry
	query := url.Values{"prefix": {prefix}, "lease": {lease.String()}, "wait": {wait.String()}}
	_, err := service.Call(ctx, http.MethodPost, c.URL+"/v1/take?"+query.Encode(), nil, nil, &e)
	return e, err
}

// Watch gives the changes under a prefix from now on, until the stream ends.
func (c Client) Watch(ctx context.Context, prefix string, take func(Entry)) error {
	return service.Listen(ctx, c.URL+"/v1/watch?prefix="+url.QueryEscape(prefix), func(e service.Event) {
		var entry Entry
		if json.Unmarshal([]byte(e.Data), &entry) == nil {
			take(entry)
		}
	})
}
