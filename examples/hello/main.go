// Hello is the smallest service: a Go program beside a compose file.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	host, _ := os.Hostname()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello from %s.\n", host)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
