package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/server"
)

func (w *world) Images(context.Context) ([]maru.Image, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []maru.Image
	for _, name := range slices.Sorted(maps.Keys(w.images)) {
		all = append(all, w.images[name])
	}
	return all, nil
}

// jobs is the part of the world whose method names are those of another part.
type jobs struct{ *world }

func (j jobs) Images(context.Context) ([]string, error) { return []string{"kept@sha256:1"}, nil }

func (j jobs) SecretsInUse(_ context.Context, scope maru.Scope) ([]maru.SecretVersion, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []maru.SecretVersion
	for _, d := range j.deployed {
		if d.Scope == scope {
			for _, v := range d.Secrets {
				all = append(all, v)
			}
		}
	}
	return all, nil
}

// engine is the part of the world that runs one-offs.
type engine struct{ *world }

func (e engine) Apply(_ context.Context, wl maru.Workload) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.jobs[wl.ID] = wl
	e.bump()
	return nil
}

func (e engine) Remove(_ context.Context, id maru.WorkloadID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.jobs, id)
	e.bump()
	return nil
}

func (e engine) Watch(ctx context.Context) iter.Seq2[maru.Observation, error] {
	return func(yield func(maru.Observation, error) bool) {
		for {
			e.mu.Lock()
			changed, message := e.changed, e.unstartable
			all := slices.Collect(maps.Keys(e.jobs))
			e.mu.Unlock()
			for _, id := range all {
				i := maru.Instance{ID: id.Service + "-run-bbbbb", Phase: maru.PhaseRunning}
				if message != "" {
					i.Phase, i.Message = maru.PhaseFailed, message
				}
				if !yield(maru.Observation{Workload: id, Instances: []maru.Instance{i}}, nil) {
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (w *world) Pull(_ context.Context, ref string, _ maru.PullOptions, progress func(maru.PullProgress)) (maru.Image, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pulls = append(w.pulls, ref)
	progress(maru.PullProgress{Done: 1, Total: 2})
	if strings.Contains(ref, "missing") {
		return maru.Image{}, maru.Errorf(maru.NotFound, "image %s does not exist", ref)
	}
	image := maru.Image{Reference: ref + "@sha256:" + fmt.Sprintf("%x", sha256.Sum256([]byte(ref))), Names: []string{ref}}
	w.images[ref] = image
	return image, nil
}

func (w *world) Load(_ context.Context, archive io.Reader) ([]maru.Image, error) {
	data, err := io.ReadAll(archive)
	return []maru.Image{{Reference: "loaded@sha256:1", Bytes: int64(len(data))}}, err
}

func (w *world) Image(_ context.Context, ref string) (maru.Image, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if image, ok := w.images[ref]; ok {
		return image, nil
	}
	return maru.Image{}, maru.Errorf(maru.NotFound, "image %s is not here", ref)
}

func (w *world) Prune(_ context.Context, keep []string) ([]maru.Image, error) {
	return []maru.Image{{Reference: "unused@sha256:1", Names: keep}}, nil
}

func (w *world) Build(_ context.Context, req server.BuildRequest, progress func(server.BuildProgress)) (maru.Image, error) {
	w.mu.Lock()
	w.builds = append(w.builds, req)
	n, built := len(w.builds), w.built
	w.mu.Unlock()
	if built != nil {
		return built(req, progress)
	}
	progress(server.BuildProgress{Step: "[1/1] COPY", Status: "started", Log: "copied\xff"})
	image := maru.Image{Reference: req.Name + "@sha256:" + strings.Repeat(maru.Itoa(n%10), 64)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images[image.Reference] = image
	return image, nil
}

func (w *world) Volumes(context.Context) ([]maru.VolumeStatus, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.volumes), nil
}

func (w *world) RemoveVolume(_ context.Context, id maru.VolumeID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := len(w.volumes)
	w.volumes = slices.DeleteFunc(w.volumes, func(v maru.VolumeStatus) bool { return v.ID == id })
	if len(w.volumes) == before {
		return maru.Errorf(maru.NotFound, "volume %s does not exist", id)
	}
	return nil
}

func (w *world) ExportVolume(context.Context, maru.VolumeID, io.Writer) error { return nil }
func (w *world) ImportVolume(context.Context, maru.VolumeID, io.Reader) error { return nil }

// output is the part of the world that has logs.
type output struct{ *world }

func (o output) Logs(ctx context.Context, q maru.LogQuery) iter.Seq2[maru.LogEntry, error] {
	return func(yield func(maru.LogEntry, error) bool) {
		told := 0
		for {
			o.mu.Lock()
			changed, entries := o.changed, slices.Clone(o.entries)
			o.mu.Unlock()
			for _, e := range entries[min(told, len(entries)):] {
				told++
				if !q.Scope.Covers(e.Workload.Scope) || q.Release != "" && q.Release != e.Workload.Name ||
					e.Cursor != "" && e.Cursor <= q.After[e.Instance] {
					continue
				}
				if !yield(e, nil) {
					return
				}
			}
			if !q.Follow {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Exec is a shell of a few commands. A one-off has its own.
func (w *world) Exec(ctx context.Context, instance string, cmd maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if cmd.Args == nil {
		w.mu.Lock()
		for _, job := range w.jobs {
			cmd.Args = append(cmd.Args, job.Container.Command...)
		}
		w.mu.Unlock()
	}
	switch cmd.Args[0] {
	case "missing":
		return 127, maru.WithHint(maru.Errorf(maru.Invalid, "there is no program"), "name another")
	case "signals":
		_, err := io.WriteString(stdout, <-cmd.Signals)
		return 130, err
	case "cat":
		if stdin == nil {
			return 0, nil
		}
		_, err := io.Copy(stdout, stdin)
		return 0, err
	case "sizes":
		for size := range cmd.Size {
			if _, err := io.WriteString(stdout, maru.Itoa(int(size.Rows))+"x"+maru.Itoa(int(size.Cols))+" "); err != nil {
				return 0, err
			}
			if size.Rows == 0 {
				return 0, nil
			}
		}
		return 0, nil
	case "forever":
		<-ctx.Done()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.by = append(w.by, "exec ended")
		w.bump()
		return 0, context.Cause(ctx)
	}
	_, _ = io.WriteString(stderr, instance+": no "+cmd.Args[0])
	return 127, nil
}

// Forward echoes in upper case until its input ends.
func (w *world) Forward(_ context.Context, _ string, port uint16) (net.Conn, error) {
	if port == 1 {
		return nil, maru.Errorf(maru.Unavailable, "nothing listens on port 1")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 1<<16)
		for {
			n, err := conn.Read(buffer)
			if n > 0 {
				_, _ = conn.Write(bytes.ToUpper(buffer[:n]))
			}
			if err != nil {
				_, _ = io.WriteString(conn, ".")
				return
			}
		}
	}()
	return net.Dial("tcp", listener.Addr().String())
}

func (w *world) Usage(context.Context) ([]maru.Usage, error) {
	return []maru.Usage{{Instance: "web-1-aaaaa", Memory: 42}, {Instance: "other", Memory: 1}}, nil
}

func (w *world) Authenticate(_ context.Context, secret string) (maru.Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t, ok := w.tokens[secret]; ok {
		return t, nil
	}
	return maru.Token{}, maru.Errorf(maru.Unauthenticated, "the token is not known")
}

func (w *world) CreateToken(_ context.Context, by string, t maru.Token) (string, maru.Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.ID, t.By = "id-"+t.Name, by
	w.tokens["maru_"+t.Name] = t
	return "maru_" + t.Name, t, nil
}

func (w *world) Tokens(context.Context) ([]maru.Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Collect(maps.Values(w.tokens))
	slices.SortFunc(all, func(a, b maru.Token) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (w *world) RevokeToken(_ context.Context, _, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.tokens, func(_ string, t maru.Token) bool { return t.ID == id })
	return nil
}

func (w *world) Check(_ context.Context, _ maru.Scope, services map[string]maru.Service) error {
	for _, v := range services {
		if v.Container.Host.Privileged && w.refuse != nil {
			return w.refuse
		}
	}
	return nil
}

func (w *world) Grants(context.Context) ([]maru.Grant, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.grants), nil
}

func (w *world) AddGrant(_ context.Context, by string, g maru.Grant) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	g.By = by
	w.grants = append(w.grants, g)
	return nil
}

func (w *world) RemoveGrant(_ context.Context, _ string, scope maru.Scope, ability string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.grants = slices.DeleteFunc(w.grants, func(g maru.Grant) bool { return g.Scope == scope && g.Ability == ability })
	return nil
}

func (w *world) SetSecret(_ context.Context, _ string, scope maru.Scope, name string, value []byte) (int, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := scope.String() + "/" + name
	versions := w.secrets[key]
	if n := len(versions); n > 0 && bytes.Equal(versions[n-1], value) {
		return n, false, nil
	}
	w.secrets[key] = append(versions, value)
	return len(w.secrets[key]), true, nil
}

func (w *world) Visible(_ context.Context, scope maru.Scope, name string) (maru.SecretInfo, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	shared := scope
	shared.App = ""
	for _, in := range []maru.Scope{scope, shared} {
		if versions := w.secrets[in.String()+"/"+name]; len(versions) > 0 {
			return maru.SecretInfo{Scope: in, Name: name, Version: len(versions)}, nil
		}
	}
	return maru.SecretInfo{}, maru.Errorf(maru.NotFound, "secret %s does not exist", name)
}

func (w *world) SecretEquals(_ context.Context, scope maru.Scope, name string, value []byte) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	versions := w.secrets[scope.String()+"/"+name]
	if len(versions) == 0 {
		return false, maru.Errorf(maru.NotFound, "secret %s does not exist", name)
	}
	return bytes.Equal(versions[len(versions)-1], value), nil
}

func (w *world) Secrets(context.Context, maru.Scope) ([]maru.SecretInfo, error) { return nil, nil }

func (w *world) RemoveSecret(_ context.Context, _ string, scope maru.Scope, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.secrets, scope.String()+"/"+name)
	return nil
}

func (w *world) Backup(_ context.Context, out io.Writer, passphrase string, volumes bool) error {
	text := passphrase
	if volumes {
		text += " with volumes"
	}
	_, err := io.WriteString(out, strings.Repeat(text+"\n", 100_000))
	return err
}

func (w *world) Restore(_ context.Context, in io.Reader, passphrase string) (server.Restored, error) {
	data, err := io.ReadAll(in)
	return server.Restored{Apps: []string{passphrase}, Volumes: []string{maru.Itoa(len(data))}}, err
}

func (w *world) Processes(context.Context) ([]server.Process, error) {
	return []server.Process{{Name: "server", State: "running", PID: 1}}, nil
}

// deps are all roles, played by the world.
func (w *world) deps(store maru.Store) server.Deps {
	return server.Deps{
		Store: store, Control: w, State: w, Jobs: jobs{w}, Routes: w, Performance: w, Receivers: &mouths{}, Engine: engine{w}, Images: w, Volumes: w, Logs: output{w}, Execer: w,
		Forwarder: w, Meter: w, Builder: w, Tokens: w, Grants: w, Secrets: w, Backups: w, Processes: w, Certificates: w.certificates,
		Authority: func() []byte { return []byte("PEM") },
	}
}
