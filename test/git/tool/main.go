// Command tool is an action that is an image without a shell: it says what it was given as its output, and leaves a file
// in the workspace.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	folder, err := os.Getwd()
	if err != nil {
		return err
	}
	if _, err := os.Stat("/github/workspace/Dockerfile"); err != nil {
		return err
	}
	if err := os.WriteFile("left", []byte("it was here\n"), 0o644); err != nil { //nolint:gosec // for whoever comes next
		return err
	}
	output, err := os.OpenFile(os.Getenv("GITHUB_OUTPUT"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer output.Close()
	_, err = fmt.Fprintf(output, "said=%s in %s with Dockerfile\n", os.Args[1], folder)
	return err
}
