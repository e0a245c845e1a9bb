package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access"
	"github.com/marucloud/maru/access/authority"
	"github.com/marucloud/maru/access/certificate"
	"github.com/marucloud/maru/access/grant"
	"github.com/marucloud/maru/access/secrets"
	"github.com/marucloud/maru/access/token"
	"github.com/marucloud/maru/control"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/follow"
	"github.com/marucloud/maru/delivery/notify"
	"github.com/marucloud/maru/delivery/pipeline/machine/container"
	"github.com/marucloud/maru/delivery/registry"
	"github.com/marucloud/maru/delivery/run"
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/engine/remote"
	"github.com/marucloud/maru/internal/backup"
	"github.com/marucloud/maru/internal/diskguard"
	"github.com/marucloud/maru/internal/sockets"
	"github.com/marucloud/maru/internal/supervisor"
	"github.com/marucloud/maru/server"
	"github.com/marucloud/maru/store/sqlite"
	"github.com/marucloud/maru/traffic/stream"
)

// again is how long to wait before a stream to another process is tried again.
const again = 100 * time.Millisecond

// serverGrace is how long calls may take to finish when the server ends.
const serverGrace = 5 * time.Second

func serverCommand() *cobra.Command {
	return hidden(command("server", "Run the control plane (started by 'maru start')", "", func(c *cobra.Command, p *platform) error {
		return runServer(c.Context(), p)
	}))
}

// controlPlane is what the server process is made of.
type controlPlane struct {
	log             *slog.Logger
	store           *sqlite.Store
	box             *secrets.Box
	authority       *authority.Authority
	certificates    *certificates
	engine          *remote.Client
	publisher       *stream.Publisher
	repositories    *source.Repositories
	git             *source.Handler
	registry        *registry.Handler
	tokens          *token.Tokens
	runs            *run.Runs
	follower        *follow.Follower
	vault           *secrets.Vault
	control         *control.Controller
	pipelines       *pipelines
	workflowSecrets *secrets.Vault
	notifier        *notify.Notifier
	server          *server.Server
}

func runServer(ctx context.Context, p *platform) error {
	parent, err := sockets.FromParent()
	if err != nil {
		return err
	}
	listeners := map[string]net.Listener{}
	for _, name := range []string{"api", "api-tls", "traffic"} {
		if listeners[name], err = parent.Listener(name); err != nil {
			return err
		}
	}
	if listeners["gateway"], err = parent.Listener("gateway"); err != nil {
		listeners["gateway"] = nil // a supervisor from before there was one
	}
	plane, err := newControlPlane(ctx, p)
	if err != nil {
		return err
	}
	defer plane.store.Close()
	return ended(ctx, plane.run(ctx, p, parent, listeners))
}

func newControlPlane(ctx context.Context, p *platform) (*controlPlane, error) {
	c := &controlPlane{log: p.logger("server"), engine: remote.Dial(p.layout.RuntimeSocket())}
	data := p.layout.ServerData()
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, maru.Errorf(maru.Unavailable, "make the server's folder: %w", err)
	}
	ranges, err := p.ranges()
	if err != nil {
		return nil, err
	}
	if c.store, err = sqlite.Open(filepath.Join(data, "state.db"), sqlite.Config{}); err != nil {
		return nil, err
	}
	if c.box, err = secrets.OpenBox(filepath.Join(data, "keys")); err != nil {
		return nil, err
	}
	if c.authority, err = authority.Open(filepath.Join(data, "authority"), c.box, authority.Config{}); err != nil {
		return nil, err
	}
	c.certificates = &certificates{Vault: certificate.New(c.store, c.box), store: c.store, authority: c.authority}
	c.vault = secrets.NewVault(c.store, c.box)
	c.workflowSecrets = secrets.NewWorkflowVault(c.store, c.box)
	c.publisher = stream.NewPublisher(stream.PublisherConfig{Report: c.tellProblems(ctx), Evidence: func(e maru.Evidence) { c.control.Evidence(e) }, Drained: func(instance string) {
		go func() {
			if err := c.engine.Drained(ctx, instance); err != nil && ctx.Err() == nil {
				c.log.Warn("could not tell the engine that an instance is drained", "instance", instance, "error", err)
			}
		}()
	}})
	if err := c.newACME(p); err != nil {
		return nil, err
	}
	c.control, err = control.New(control.Config{Ranges: ranges, Secrets: c.vault.Value}, c.store, appEngine{c.engine}, c.publisher, c.log)
	if err != nil {
		return nil, err
	}
	if err := c.newRuns(data); err != nil {
		return nil, err
	}
	host := hostName()
	if c.notifier, err = notify.New(notify.Config{Host: host}, c.store, c.box, c.log); err != nil {
		return nil, err
	}
	c.tokens = token.New(c.store)
	c.registry = registry.New(registry.Config{Hosts: p.registryHosts(), Tags: p.keepTags}, c.engine, c.tokens, c.control, c.log)
	c.git = source.NewHandler(c.repositories, c.tokens, follow.Gate{Receiver: c.runs, Follower: c.follower})
	labels, err := p.jobLabels()
	if err != nil {
		return nil, err
	}
	c.pipelines = newPipelines(filepath.Join(data, "pipelines"), labels, build.Dial(p.layout.BuilderSocket()), container.Parts{Engine: c.engine, Execer: c.engine, Images: jobImages{c.engine}, Traffic: c.publisher})
	c.server, err = server.New(server.Config{Data: data, Host: host, Version: server.VersionInfo{Version: version}, HTTPPort: portOf(p.http), HTTPSPort: portOf(p.https)}, server.Deps{
		Store: c.store, Control: c.control, State: c.control, Jobs: c.control, Performance: c.control, Receivers: c.notifier, Traffic: c.control,
		Routes: routing{c.publisher},
		Engine: c.engine, Images: c.engine, Volumes: c.engine, Logs: c.engine, Execer: c.engine, Forwarder: c.engine, Meter: c.engine,
		Builder: builder{build.Dial(p.layout.BuilderSocket())}, Pipelines: c.pipelines, WorkflowSecrets: c.workflowSecrets,
		Tokens: c.tokens, Grants: grant.New(c.store), Secrets: c.vault,
		Processes:    processStatus{supervisor.Client{Socket: p.layout.SupervisorSocket()}, c.engine},
		Backups:      backups{c.backups(data)},
		Certificates: c.certificates,
		Authority:    c.authority.RootPEM,
		Runs:         c.runs,
		Environments: c.runs,
		Repositories: c.runs,
		Git:          c.git,
		Registry:     c.registry,
		Followed:     c.follower,
		Webhooks:     c.follower,
	}, c.log)
	return c, err
}

// backups saves and restores all that the control plane keeps.
func (c *controlPlane) backups(folder string) *backup.Backups {
	return backup.New(backup.Config{
		State: c.store, Repositories: c.repositories, Volumes: c.engine, Images: c.engine, References: c.control.Images, Folder: folder, Version: version,
		Keepers: map[string]backup.Keeper{
			"secrets":   {Export: func() ([]byte, error) { return c.box.Export(), nil }, Adopt: c.box.Adopt},
			"authority": {Export: c.authority.Export, Adopt: c.authority.Adopt},
		},
	})
}

// diskGuard cleans the disk before it is full.
func (c *controlPlane) diskGuard(p *platform) *diskguard.Guard {
	place := maru.Scope{Project: maru.DefaultProject, Environment: maru.DefaultEnvironment}
	return diskguard.New(diskguard.Config{Folder: p.layout.Data}, diskguard.Cleaner{
		Images: c.server.PruneImages,
		Builds: func(ctx context.Context) (int64, error) { return build.Dial(p.layout.BuilderSocket()).Prune(ctx, 0) },
		Tell: func(ctx context.Context, message string) {
			c.log.Info("cleaned the disk", "removed", message)
			if _, err := c.store.Commit(ctx, access.Recorded("maru", place, "disk-cleaned", message)); err != nil {
				c.log.Warn("could not record that the disk was cleaned", "error", err)
			}
		},
	}, c.log)
}

// hostName names this machine to others.
func hostName() string {
	if host, err := os.Hostname(); err == nil && host != "" {
		return host
	}
	return "localhost"
}

func portOf(address string) uint16 {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(port)
}

func (c *controlPlane) run(ctx context.Context, p *platform, parent sockets.Parent, listeners map[string]net.Listener) error {
	if err := c.runs.Reconcile(ctx); err != nil {
		return err
	}
	if listeners["gateway"] != nil {
		c.publisher.Set(ownRoutes(p))
	} else {
		c.log.Warn("the gateway leads nothing to the server, such as git push: the supervisor is of an older version", "do", "restart maru start, or maru.target")
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.control.Run(ctx) })
	group.Go(func() error { return c.server.Run(ctx) })
	group.Go(func() error { return stream.NewServer(c.publisher, c.log).Run(ctx, listeners["traffic"]) })
	group.Go(func() error { return c.followEngine(ctx) })
	group.Go(func() error { return c.repositories.Run(ctx) })
	group.Go(func() error { return c.runs.Run(ctx) })
	group.Go(func() error { return c.registry.Run(ctx) })
	group.Go(func() error { return c.follower.Run(ctx) })
	group.Go(func() error { return c.notifier.Run(ctx) })
	group.Go(func() error { return c.pipelines.sweep(ctx) })
	group.Go(func() error { return c.keepCertificates(ctx) })
	if c.certificates.acme != nil {
		group.Go(func() error { return c.certificates.acme.Run(ctx) })
	}
	group.Go(func() error { return c.diskGuard(p).Run(ctx) })
	group.Go(func() error { return c.serveAPI(ctx, listeners) })
	if p.ssh != "" {
		group.Go(func() error { return c.serveSSH(ctx, p) })
	}
	if err := parent.Ready(version); err != nil {
		return err
	}
	return group.Wait()
}

// followEngine tells the engine what the proxies are told, for balancing and policy in the kernel.
func (c *controlPlane) followEngine(ctx context.Context) error {
	for ctx.Err() == nil {
		err := c.publisher.Follow(ctx, withoutOwn{c.engine})
		if ctx.Err() == nil && maru.KindOf(err) != maru.Unavailable {
			c.log.Warn("the engine did not take a traffic update", "error", err)
		}
		pause(ctx, again)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (c *controlPlane) serveAPI(ctx context.Context, listeners map[string]net.Listener) error {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && c.authority.Permits(host) == nil {
		names = append(names, host)
	}
	config, err := c.authority.TLSConfig(names...)
	if err != nil {
		return err
	}
	doors := []server.Door{{Listener: listeners["api"]}, {Listener: listeners["api-tls"], TLS: config}}
	if listeners["gateway"] != nil {
		doors = append(doors, server.Door{Listener: listeners["gateway"], Gateway: true})
	}
	return c.server.Serve(ctx, serverGrace, doors...)
}
