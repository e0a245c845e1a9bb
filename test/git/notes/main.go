// Command notes is an app of a database, a program that fills it, and one that shows what is in it: what the tests
// of previews deploy.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	var err error
	switch command := append(os.Args[1:], "web"); command[0] {
	case "store":
		err = store()
	case "write":
		err = write(os.Args[2:])
	default:
		err = web()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const file = "/data/notes"

// store keeps lines in a file of its volume: POST / adds some, GET / gives all.
func store() error {
	var mu sync.Mutex
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(data)
	})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if err := add(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return http.ListenAndServe(":8080", mux)
}

func add(from io.Reader) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, from); err != nil {
		return err
	}
	return f.Sync()
}

// write adds lines to the database; one that is "fail" makes it fail.
func write(lines []string) error {
	for _, line := range lines {
		if line == "fail" {
			return errors.New("there is nothing to write about")
		}
		answer, err := http.Post("http://db:8080/", "text/plain", strings.NewReader(line+"\n"))
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("the database answers %s", answer.Status)
		}
		fmt.Println("wrote", line)
	}
	return nil
}

// web shows the database, and with which version and secret it runs.
func web() error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		client := http.Client{Timeout: 5 * time.Second}
		answer, err := client.Get("http://db:8080/")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		var notes []string
		for scanner := bufio.NewScanner(answer.Body); scanner.Scan(); {
			notes = append(notes, scanner.Text())
		}
		key, _ := os.ReadFile("/run/secrets/key")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"notes": notes, "version": os.Getenv("VERSION"), "domain": os.Getenv("DOMAIN"), "key": string(key),
		})
	})
	return http.ListenAndServe(":8080", mux)
}
