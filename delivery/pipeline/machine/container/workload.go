package container

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// jobWorkload is the job's own container. Its first process makes the job's folders, and then does nothing but
// reap, and lead ports of localhost to the services: what the job does runs beside it.
func (j *job) jobWorkload(spec machine.Spec, image string, services []reached) maru.Workload {
	hold := []string{"--hold"}
	if isRoot(spec.User) {
		hold = append(hold, temporary, j.home)
	}
	for _, s := range services {
		if !s.addresses.V4.IsValid() {
			continue
		}
		j.hosts = append(j.hosts, maru.HostEntry{Name: strings.ToLower(s.service.Name), Address: s.addresses.V4.String()})
		for _, p := range s.service.Ports {
			hold = append(hold, fmt.Sprintf("127.0.0.1:%d=%s", p.Host, netip.AddrPortFrom(s.addresses.V4, p.Container)))
		}
	}
	w := j.workload(jobService, image, spec.CPUs, spec.Memory, spec.ShmSize, spec.Tmpfs)
	w.Container.Init = true // the reaper, which takes --hold for a command
	w.Container.Entrypoint, w.Container.Command = hold, []string{}
	w.Container.Env = map[string]string{"HOME": j.home}
	maps.Copy(w.Container.Env, spec.Env)
	w.Container.User = cmp.Or(spec.User, "0:0")
	w.Container.WorkDir = workspace // which is there before the first process
	w.Container.Hostname = spec.Hostname
	w.Container.ExtraHosts = j.hosts
	return w
}

func (j *job) serviceWorkload(i int, s machine.Service, image string) maru.Workload {
	name := strings.ToLower(s.Name)
	if maru.CheckName("service", name) != nil || name == jobService {
		name = fmt.Sprintf("service-%d", i+1)
	}
	w := j.workload(name, image, s.CPUs, s.Memory, s.ShmSize, s.Tmpfs)
	w.Container.Env, w.Container.User, w.Container.Entrypoint = s.Env, s.User, s.Entrypoint
	for _, p := range s.Ports {
		w.Ports = append(w.Ports, maru.Port{Port: p.Container, Protocol: maru.TCP, App: "tcp"})
	}
	if h := s.Health; h != nil {
		w.Container.Probes.Ready = &maru.Probe{
			Exec: []string{"sh", "-c", h.Command}, Interval: cmp.Or(h.Interval, time.Second), Timeout: cmp.Or(h.Timeout, 30*time.Second),
			Failures: cmp.Or(h.Retries, 30), StartPeriod: h.StartPeriod, StartInterval: min(cmp.Or(h.Interval, time.Second), time.Second),
		}
	}
	return w
}

// workload is what the job's container and its services have in common.
func (j *job) workload(name, image string, cpus float64, memory, shm int64, tmpfs []string) maru.Workload {
	w := maru.Workload{
		ID: j.scope.Service(name).Workload("1"), Kind: maru.LongRunning, Image: image, Replicas: 1,
		Networks: []maru.NetworkID{{Scope: j.scope, Network: "job"}},
		Container: maru.Container{
			ShmSize: shm,
			Resources: maru.Resources{
				CPUs: min(cmp.Or(cpus, j.cfg.CPUs), j.cfg.MaxCPUs), Memory: min(cmp.Or(memory, j.cfg.Memory), j.cfg.MaxMemory), PIDs: j.cfg.PIDs, Disk: j.cfg.Disk,
			},
			Restart: maru.Restart{Policy: maru.RestartNever},
			Stop:    maru.Stop{Grace: 2 * time.Second, Drain: time.Second},
		},
	}
	for _, path := range tmpfs {
		w.Container.Mounts = append(w.Container.Mounts, maru.Mount{Kind: maru.TmpfsMount, Target: path})
	}
	return w
}
