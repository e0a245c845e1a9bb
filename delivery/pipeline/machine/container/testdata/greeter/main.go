// Command greeter is a service for tests: whoever connects to port 18089 is told hello.
package main

import (
	"log"
	"net"
)

func main() {
	l, err := net.Listen("tcp", ":18089")
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		_, _ = conn.Write([]byte("hello"))
		_ = conn.Close()
	}
}
