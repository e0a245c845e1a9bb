package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/compose"
	"github.com/marucloud/maru/internal/source"
)

func (s *shell) deployCommand() *cobra.Command {
	var message string
	var detach, force, rebuild bool
	c := &cobra.Command{
		Use: "deploy [SERVICE…]", Short: "Build, release and roll out the app of the compose file here",
		Long: `Deploy makes the app what its compose file says: it builds and pulls images, makes releases of what
changed, and rolls them out: new instances start and prove ready before the old ones drain and stop.

A release that does not become ready in time is taken back by itself, and deploy exits with 3. Nothing
changed means nothing restarted. With SERVICE only these change; without, services that are gone from
the file are removed.`,
		Example: `  maru deploy
  maru deploy web worker
  maru deploy -f compose.yaml -f compose.prod.yaml --env staging
  maru deploy --detach -o json`,
		ValidArgsFunction: s.completeFileServices,
		RunE: func(c *cobra.Command, args []string) error {
			d, err := s.prepare(c.Context(), args)
			if err != nil {
				return err
			}
			request := d.request
			request.Message, request.Detach, request.Force, request.Rebuild = message, detach, force, rebuild
			stream, err := d.Apps.Deploy(c.Context(), request)
			if err != nil {
				return err
			}
			defer stream.Close()
			return s.follow(request.Scope, func(e *event) bool {
				if !stream.Receive() {
					return false
				}
				m := stream.Msg()
				e.progress, e.status, e.result, e.message = m.GetProgress(), m.GetStatus(), m.GetResult(), m
				return true
			}, stream.Err)
		},
	}
	c.Flags().StringVarP(&message, "message", "m", "", "why, kept with the release")
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when the rollout has begun; 'maru status' shows how it goes")
	c.Flags().BoolVar(&force, "force", false, "make new releases also where nothing changed")
	c.Flags().BoolVar(&rebuild, "rebuild", false, "build images also where their source did not change")
	return c
}

// deployment is a deploy that is ready to be sent.
type deployment struct {
	*client.Client
	request *maruv1.DeployRequest
}

// prepare reads the file and sends the build contexts.
func (s *shell) prepare(ctx context.Context, services []string) (deployment, error) {
	loaded, err := s.load(ctx)
	if err != nil {
		return deployment{}, err
	}
	s.showWarnings(loaded.Warnings)
	return s.prepareLoaded(ctx, loaded, services)
}

// prepareLoaded does so with a file that was read.
func (s *shell) prepareLoaded(ctx context.Context, loaded compose.Result, services []string) (deployment, error) {
	for _, name := range services {
		if _, ok := loaded.App.Services[name]; !ok {
			return deployment{}, misuse{maru.WithHint(maru.Errorf(maru.NotFound, "the file has no service %q", name),
				fmt.Sprintf("it has %v", slices.Sorted(maps.Keys(loaded.App.Services))))}
		}
	}
	connected, err := s.connect()
	if err != nil {
		return deployment{}, err
	}
	app, err := appStruct(loaded.App)
	if err != nil {
		return deployment{}, err
	}
	scope := s.place()
	scope.App = loaded.App.Name
	request := &maruv1.DeployRequest{Scope: scope, App: app, Services: services, Secrets: loaded.SecretValues,
		Registries: s.registryLogins(loaded.App), BuildSecrets: map[string]*maruv1.BuildSecrets{}}
	for service, values := range loaded.BuildSecrets {
		request.BuildSecrets[service] = &maruv1.BuildSecrets{Values: values}
	}
	if request.Sources, err = s.sendSources(ctx, connected, loaded.App, services); err != nil {
		return deployment{}, err
	}
	return deployment{connected, request}, nil
}

// appStruct gives the JSON form of the app, as the API takes it.
func appStruct(app maru.App) (*structpb.Struct, error) {
	data, err := json.Marshal(app)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "write the app: %w", err)
	}
	form := &structpb.Struct{}
	if err := form.UnmarshalJSON(data); err != nil {
		return nil, maru.Errorf(maru.Invalid, "write the app: %w", err)
	}
	return form, nil
}

// buildFolders gives the folders that the services' builds read, each with its Dockerfile.
func buildFolders(app maru.App, services []string) map[string]string {
	folders := map[string]string{}
	for name, service := range app.Services {
		if service.Build == nil || len(services) > 0 && !slices.Contains(services, name) {
			continue
		}
		if filepath.IsAbs(service.Build.Context) {
			folders[service.Build.Context] = service.Build.Dockerfile
		}
		for _, other := range service.Build.Contexts {
			if filepath.IsAbs(other) {
				if _, ok := folders[other]; !ok {
					folders[other] = ""
				}
			}
		}
	}
	return folders
}

// sendSources makes the server have the content of all build contexts, and gives their IDs by folder.
func (s *shell) sendSources(ctx context.Context, connected *client.Client, app maru.App, services []string) (map[string]string, error) {
	dockerfiles := buildFolders(app, services)
	paths := slices.Sorted(maps.Keys(dockerfiles))
	folders := make([]client.Folder, len(paths))
	cache, err := os.UserCacheDir()
	if err == nil {
		cache = filepath.Join(cache, "maru")
	}
	var scans errgroup.Group
	for i, path := range paths {
		scans.Go(func() error {
			manifest, err := source.Scan(ctx, path, source.ScanOptions{Dockerfile: dockerfiles[path], CacheDir: cache})
			folders[i] = client.Folder{Path: path, Manifest: manifest}
			return err
		})
	}
	if err := scans.Wait(); err != nil {
		return nil, err
	}
	bar := s.transfer("sending build contexts")
	ids, err := connected.SendSources(ctx, folders, bar.set)
	bar.done()
	if err != nil {
		return nil, err
	}
	byPath := map[string]string{}
	for i, path := range paths {
		byPath[path] = ids[i]
	}
	return byPath, nil
}

func (s *shell) completeFileServices(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	loaded, err := compose.Load(c.Context(), s.composeOptions(nil))
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.Sorted(maps.Keys(loaded.App.Services)), cobra.ShellCompDirectiveNoFileComp
}

func (s *shell) checkCommand() *cobra.Command {
	return &cobra.Command{Use: "check", Short: "Check the compose file without deploying", Args: cobra.NoArgs,
		Long: `Check reads the compose file as deploy would, without a server, and tells of every fault in it with its
place and what to write instead.`,
		RunE: func(c *cobra.Command, _ []string) error {
			loaded, err := compose.Load(c.Context(), s.composeOptions(nil))
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printJSON(map[string]any{"app": loaded.App, "warnings": loaded.Warnings})
			}
			s.showWarnings(loaded.Warnings)
			fmt.Fprintf(s.Stdout, "%s: %d services, %d warnings\n", loaded.App.Name, len(loaded.App.Services), len(loaded.Warnings))
			return nil
		}}
}

func (s *shell) schemaCommand() *cobra.Command {
	return &cobra.Command{Use: "schema", Short: "Print the JSON Schema of compose files with x-maru", Args: cobra.NoArgs,
		Example: `  maru schema > compose-maru.schema.json
  # then in compose.yaml, for editors:
  # yaml-language-server: $schema=compose-maru.schema.json`,
		RunE: func(*cobra.Command, []string) error {
			_, err := s.Stdout.Write(compose.Schema())
			return err
		}}
}

func (s *shell) planCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "plan [SERVICE…]", Short: "Show what a deploy would change", ValidArgsFunction: s.completeFileServices,
		RunE: func(c *cobra.Command, args []string) error {
			d, err := s.prepare(c.Context(), args)
			if err != nil {
				return err
			}
			plan, err := d.Apps.Plan(c.Context(), &maruv1.PlanRequest{Scope: d.request.Scope, App: d.request.App, Services: args,
				Sources: d.request.Sources, Secrets: d.request.Secrets, Force: force})
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(plan)
			}
			return s.showPlan(plan)
		}}
	c.Flags().BoolVar(&force, "force", false, "plan new releases also where nothing changed")
	return c
}

func (s *shell) showPlan(plan *maruv1.PlanResponse) error {
	style := styles(s.Stdout)
	marks := map[string]string{"create": style.good("+"), "update": style.warn("~"), "scale": style.warn("~"), "start": style.good("+"), "remove": style.bad("-")}
	changed := 0
	for _, change := range plan.Changes {
		mark, ok := marks[change.Action]
		if !ok {
			continue
		}
		changed++
		line := fmt.Sprintf("%s %s: %s", mark, style.bold(change.Service), change.Action)
		if change.Strategy != "" {
			line += " (" + change.Strategy + ")"
		}
		fmt.Fprintln(s.Stdout, line)
		for _, d := range change.Differences {
			fmt.Fprintf(s.Stdout, "    %s: %s → %s\n", d.Path, orDash(d.From), orDash(d.To))
		}
		if change.Note != "" {
			fmt.Fprintf(s.Stdout, "    %s\n", style.dim(change.Note))
		}
	}
	fmt.Fprintf(s.Stdout, "%d of %d services would change\n", changed, len(plan.Changes))
	for _, p := range plan.Problems {
		message := p.Message
		if p.Service != "" {
			message = p.Service + ": " + message
		}
		fmt.Fprintf(s.Stdout, "%s %s\n", style.bad("refused:"), message)
		if p.Hint != "" {
			fmt.Fprintf(s.Stdout, "  %s %s\n", style.dim("hint:"), p.Hint)
		}
	}
	if len(plan.Problems) > 0 {
		return exitCode(exitFailed)
	}
	return nil
}
