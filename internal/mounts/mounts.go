// Package mounts finds and removes what is mounted in a folder (proc_pid_mountinfo(5)).
package mounts

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Below gives what is mounted at the folder or below it, innermost first.
func Below(folder string) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer file.Close()
	var found []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if target := unescape(fields[4]); target == folder || strings.HasPrefix(target, folder+"/") {
			found = append(found, target)
		}
	}
	slices.Sort(found)
	slices.Reverse(found)
	return found, lines.Err()
}

// Unmount unmounts all that is mounted at the folder or below it.
func Unmount(folder string) error {
	found, err := Below(folder)
	if err != nil {
		return err
	}
	var failed []error
	for _, target := range found {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			failed = append(failed, fmt.Errorf("unmount %s: %w", target, err))
		}
	}
	return errors.Join(failed...)
}

func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
