package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
)

func TestTeller(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener) }()
	var out bytes.Buffer
	if err := ask(ctx, listener.Addr().String(), "Ann", &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "Hello Ann, this is ") || !strings.HasSuffix(got, "\n1\n2\n3\n") {
		t.Errorf("%q", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
