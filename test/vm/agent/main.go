// Command agent runs in the virtual machine of the tests. It reads scripts from a virtio port, one JSON
// object each, runs them by the shell, several at a time, and answers with what came of them.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// request and answer are also known to the test, at the other end of the port.
type request struct {
	ID     int    `json:"id"`
	Script string `json:"script"`
}

type answer struct {
	ID     int    `json:"id,omitempty"`
	Code   int    `json:"code"`
	Output string `json:"output,omitempty"`
	Boot   string `json:"boot,omitempty"` // said first, once
}

func main() {
	if err := run("/dev/virtio-ports/maru"); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	port, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer port.Close()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(a answer) error {
		mu.Lock()
		defer mu.Unlock()
		return json.NewEncoder(port).Encode(a)
	}
	if err := say(answer{Boot: strings.TrimSpace(string(boot))}); err != nil {
		return err
	}
	requests := json.NewDecoder(port)
	for {
		var r request
		if err := requests.Decode(&r); err != nil {
			return err
		}
		go func() {
			if err := say(carryOut(r)); err != nil {
				fmt.Fprintln(os.Stderr, "agent:", err)
			}
		}()
	}
}

func carryOut(r request) answer {
	var output bytes.Buffer
	cmd := exec.Command("/bin/bash", "-c", r.Script)
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	a := answer{ID: r.ID, Output: output.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		a.Code = exit.ExitCode()
	} else if err != nil {
		a.Code, a.Output = -1, a.Output+err.Error()
	}
	return a
}
