// Package layout says where one installation of Maru keeps what on a machine. Two installations of
// different names share nothing, so that tests run beside a real one.
package layout

import "path/filepath"

// Layout is one installation. The zero Name, Data and Run are those of a system-wide one.
type Layout struct {
	Name string // names cgroups, interfaces and nftables tables; default "maru"; at most 8 of a-z and 0-9
	Data string // absolute; survives a reboot; default /var/lib/maru
	Run  string // absolute; sockets and what lives as long as the machine is up; default /run/maru
}

// Default fills what is empty.
func (l Layout) Default() Layout {
	if l.Name == "" {
		l.Name = "maru"
	}
	if l.Data == "" {
		l.Data = "/var/lib/" + l.Name
	}
	if l.Run == "" {
		l.Run = "/run/" + l.Name
	}
	return l
}

// ServerSocket is where the API listens for this machine's users.
func (l Layout) ServerSocket() string { return filepath.Join(l.Run, "server.sock") }

// TrafficSocket is where the server streams traffic state to the proxy, in a folder that the proxy's user may enter.
func (l Layout) TrafficSocket() string { return filepath.Join(l.Run, "traffic", "traffic.sock") }

// GatewaySocket is where the gateway leads requests that are for the server, in the same folder.
func (l Layout) GatewaySocket() string { return filepath.Join(l.Run, "traffic", "gateway.sock") }

// RuntimeSocket is where the engine listens for the server.
func (l Layout) RuntimeSocket() string { return filepath.Join(l.Run, "runtime.sock") }

// ContainerdSocket is the embedded containerd's gRPC socket, for the builder.
func (l Layout) ContainerdSocket() string { return filepath.Join(l.Run, "containerd.sock") }

// BuilderSocket is where the builder listens for the server.
func (l Layout) BuilderSocket() string { return filepath.Join(l.Run, "builder.sock") }

// SupervisorSocket is where the supervisor hands out listening sockets and starts the builder.
func (l Layout) SupervisorSocket() string { return filepath.Join(l.Run, "supervisor.sock") }

// ServerData is the folder of the server's state.
func (l Layout) ServerData() string { return filepath.Join(l.Data, "server") }

// ProxyData is the folder of the proxy's last known state, owned by the proxy's user.
func (l Layout) ProxyData() string { return filepath.Join(l.Data, "proxy") }

// RuntimeData is the folder of the engine's wanted workloads.
func (l Layout) RuntimeData() string { return filepath.Join(l.Data, "runtime") }

// ContainerdData is containerd's root.
func (l Layout) ContainerdData() string { return filepath.Join(l.Data, "containerd") }

// BuilderData is the folder of the builder's cache.
func (l Layout) BuilderData() string { return filepath.Join(l.Data, "builder") }

// LogData is the folder of the instances' logs.
func (l Layout) LogData() string { return filepath.Join(l.Data, "logs") }

// VolumeData is the folder of the volumes.
func (l Layout) VolumeData() string { return filepath.Join(l.Data, "volumes") }

// Cgroup is the parent, in every hierarchy, of the cgroups of instances and builds.
func (l Layout) Cgroup() string { return "/" + l.Name }
