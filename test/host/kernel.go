package host

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/google/nftables"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/marucloud/maru"
)

func contains(prefix netip.Prefix, bytes []byte) bool {
	address, ok := netip.AddrFromSlice(bytes)
	return ok && prefix.Contains(address) && address != prefix.Masked().Addr()
}

// rules gives the addresses of instances that stand in the installation's nftables sets and maps.
func (m *Machine) rules() []string {
	conn, err := nftables.New()
	if err != nil {
		return []string{err.Error()}
	}
	tables, err := conn.ListTables()
	if err != nil {
		return []string{err.Error()}
	}
	instances := maru.DefaultRanges().InstancesV4
	var found []string
	for _, table := range tables {
		if !strings.HasPrefix(table.Name, m.Layout.Name) {
			continue
		}
		sets, err := conn.GetSets(table)
		if err != nil {
			return []string{err.Error()}
		}
		for _, set := range sets {
			elements, err := conn.GetSetElements(set)
			if err != nil {
				continue // it went meanwhile
			}
			for _, e := range elements {
				for _, value := range [][]byte{e.Key, e.Val} {
					if len(value) >= 4 && !e.IntervalEnd && contains(instances, value[:4]) {
						found = append(found, fmt.Sprintf("rule in %s with %s", set.Name, netip.AddrFrom4([4]byte(value[:4]))))
					}
				}
			}
		}
	}
	return found
}

// containers gives the engine's containers, their file systems, and all leases. Without a runtime: none.
func (m *Machine) containers(ctx context.Context) []string {
	if m.PID("runtime") == 0 {
		return nil
	}
	conn, err := grpc.NewClient("unix://"+m.Layout.ContainerdSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return []string{err.Error()}
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "maru"), 10*time.Second)
	defer cancel()
	var found []string
	containers, err := containersapi.NewContainersClient(conn).List(ctx, &containersapi.ListContainersRequest{})
	if err != nil {
		return []string{"containers: " + err.Error()}
	}
	for _, c := range containers.Containers {
		if c.Labels["maru.cloud/instance"] != "" {
			found = append(found, "container "+c.ID)
		}
	}
	leases, err := leasesapi.NewLeasesClient(conn).List(ctx, &leasesapi.ListRequest{})
	if err != nil {
		return []string{"leases: " + err.Error()}
	}
	for _, l := range leases.Leases {
		found = append(found, "lease "+l.ID)
	}
	snapshots, err := snapshotsapi.NewSnapshotsClient(conn).List(ctx, &snapshotsapi.ListSnapshotsRequest{Snapshotter: "overlayfs"})
	if err != nil {
		return []string{"snapshots: " + err.Error()}
	}
	for {
		page, err := snapshots.Recv()
		if err != nil {
			return found
		}
		for _, s := range page.Info {
			if s.Kind == snapshotsapi.Kind_ACTIVE {
				found = append(found, "file system "+s.Name)
			}
		}
	}
}
