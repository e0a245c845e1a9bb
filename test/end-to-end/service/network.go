package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// listenBeside starts the servers that TCP and UDP name, until the context ends.
func listenBeside(ctx context.Context) {
	host, _ := os.Hostname()
	if address := os.Getenv("TCP"); address != "" {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		context.AfterFunc(ctx, func() { listener.Close() })
		go acceptTCP(listener, host)
	}
	if address := os.Getenv("UDP"); address != "" {
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		go answerUDP(conn, host)
	}
}

// acceptTCP waits for a line on each connection, as databases do, and answers with its name and the line.
func acceptTCP(listener net.Listener, host string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				fmt.Fprintf(conn, "%s %s\n", host, lines.Text())
			}
		}()
	}
}

func answerUDP(conn net.PacketConn, host string) {
	buffer := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		fmt.Println("datagram", string(buffer[:n]), "from", from)
		conn.WriteTo([]byte(host+" "+string(buffer[:n])), from)
	}
}

// get fails unless the URL answers with 200.
func get(url string) int {
	client := http.Client{Timeout: 2 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		fmt.Fprintln(os.Stderr, "told to fail: answered", response.StatusCode)
		return 1
	}
	return 0
}

// kept are connections that outlive the request that opened them.
var kept sync.Map

func handleNetwork(mux *http.ServeMux) {
	mux.HandleFunc("GET /ask", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		answer, err := ask(q.Get("network"), q.Get("address"), q.Get("say"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, answer)
	})
	mux.HandleFunc("POST /keep", func(w http.ResponseWriter, r *http.Request) {
		conn, err := net.DialTimeout("tcp", r.URL.Query().Get("address"), 5*time.Second)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		kept.Store(r.URL.Query().Get("as"), conn)
	})
	mux.HandleFunc("GET /kept", func(w http.ResponseWriter, r *http.Request) {
		conn, found := kept.Load(r.URL.Query().Get("as"))
		if !found {
			http.Error(w, "not kept", http.StatusNotFound)
			return
		}
		answer, err := talk(conn.(net.Conn), r.URL.Query().Get("say"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, answer)
	})
	mux.HandleFunc("GET /reach", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(reach(r.URL.Query()["address"]))
	})
	mux.HandleFunc("GET /addresses", func(w http.ResponseWriter, r *http.Request) {
		found, _ := net.InterfaceAddrs()
		json.NewEncoder(w).Encode(found)
	})
	mux.HandleFunc("GET /id", func(w http.ResponseWriter, r *http.Request) { json.NewEncoder(w).Encode(identity()) })
}

func ask(network, address, text string) (string, error) {
	conn, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if network == "udp" {
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := fmt.Fprint(conn, text); err != nil {
			return "", err
		}
		buffer := make([]byte, 2048)
		n, err := conn.Read(buffer)
		return string(buffer[:n]), err
	}
	return talk(conn, text)
}

func talk(conn net.Conn, text string) (string, error) {
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintln(conn, text); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(conn)
	if !lines.Scan() {
		return "", errors.Join(lines.Err(), errors.New("the connection ended"))
	}
	return lines.Text(), nil
}

// reach gives for each address "tcp:HOST:PORT" or "udp:HOST:PORT" whether anything answers there.
func reach(addresses []string) map[string]bool {
	var mutex sync.Mutex
	var asking sync.WaitGroup
	reached := make(map[string]bool)
	for _, address := range addresses {
		asking.Go(func() {
			network, where := address[:3], address[4:]
			var err error
			if network == "udp" {
				_, err = ask(network, where, "anybody there?")
			} else {
				var conn net.Conn
				if conn, err = net.DialTimeout(network, where, time.Second); err == nil {
					conn.Close()
				}
			}
			mutex.Lock()
			defer mutex.Unlock()
			reached[address] = err == nil
		})
	}
	asking.Wait()
	return reached
}
