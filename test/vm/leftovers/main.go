// Command leftovers runs in the virtual machine: it fails when there is anything of Maru that belongs
// to none of the instances that its apps have, and says what.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/marucloud/maru/test/host"
)

func main() {
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Minute, fmt.Errorf("it took longer than a minute"))
	defer cancel()
	left, err := look(ctx, host.Installed())
	if err != nil {
		fmt.Fprintln(os.Stderr, "leftovers:", err)
		os.Exit(2)
	}
	for _, thing := range left {
		fmt.Println(thing)
	}
	if len(left) > 0 {
		os.Exit(1)
	}
}

func look(ctx context.Context, m *host.Machine) ([]string, error) {
	apps, err := m.Apps(ctx)
	if err != nil {
		return nil, err
	}
	var instances []host.Instance
	for _, app := range apps {
		status, err := m.Status(ctx, app)
		if err != nil {
			return nil, err
		}
		for _, service := range status.Services {
			instances = append(instances, service.Instances...)
		}
	}
	return m.Leftovers(ctx, instances), nil
}
