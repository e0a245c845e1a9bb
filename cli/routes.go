package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func (s *shell) routesCommand() *cobra.Command {
	var everything bool
	c := &cobra.Command{Use: "routes", Short: "List what the gateway leads where", Args: cobra.NoArgs,
		Long:    "Routes lists the routes of an app, with what is done to requests on the way. With --all, or where no app is meant, it lists those of every app.",
		Example: "  maru routes\n  maru routes --all -o json\n  maru routes explain https://shop.example.com/api/orders",
		RunE: func(c *cobra.Command, _ []string) error {
			scope := &maruv1.Scope{}
			if !everything {
				var err error
				if scope, err = s.scopeOrAll(c.Context()); err != nil {
					return err
				}
			}
			return s.listRoutes(c.Context(), scope)
		}}
	c.Flags().BoolVarP(&everything, "all", "a", false, "of all apps")
	c.AddCommand(s.explainCommand())
	return c
}

func (s *shell) listRoutes(ctx context.Context, scope *maruv1.Scope) error {
	connected, err := s.connect()
	if err != nil {
		return err
	}
	list, err := connected.Routes.ListRoutes(ctx, &maruv1.ListRoutesRequest{Scope: scope})
	if err != nil {
		return err
	}
	switch {
	case s.output == "json":
		return s.printMessage(list)
	case len(list.Routes) == 0:
		fmt.Fprintln(s.Stdout, "no routes: give a service one with x-maru.route in the compose file")
		return nil
	}
	t := s.table("HOST", "PATH", "MATCH", "SERVICE", "PORT", "POLICIES", "PROBLEM")
	for _, r := range list.Routes {
		t.row(hostText(r), pathText(r), orDash(matchText(r)), r.Scope.App+"/"+r.Service, portText(r.Port), orDash(strings.Join(r.Policies, ", ")), r.Problem)
	}
	return t.flush()
}

func hostText(r *maruv1.Route) string {
	if r.Host == "" {
		return "*"
	}
	return r.Host
}

func pathText(r *maruv1.Route) string {
	if r.Exact {
		return r.Path
	}
	return r.Path + "/*"
}

func portText(port uint32) string {
	if port == 0 {
		return "-"
	}
	return fmt.Sprint(port)
}

// matchText says what a request must have beside host and path.
func matchText(r *maruv1.Route) string {
	var all []string
	if len(r.Methods) > 0 {
		all = append(all, strings.Join(r.Methods, "|"))
	}
	for _, name := range sortedKeys(r.Headers) {
		all = append(all, name+": "+r.Headers[name])
	}
	for _, name := range sortedKeys(r.Query) {
		all = append(all, "?"+name+"="+r.Query[name])
	}
	return strings.Join(all, " ")
}

// routeText names a route.
func routeText(r *maruv1.Route) string {
	return strings.TrimSpace(hostText(r)+pathText(r)+" "+matchText(r)) + " of " + r.Scope.App + "/" + r.Service
}

func (s *shell) explainCommand() *cobra.Command {
	var method string
	var headers []string
	c := &cobra.Command{Use: "explain URL", Short: "Show where a request would go, and why not elsewhere", Args: cobra.ExactArgs(1),
		ValidArgsFunction: firstArg(s.completeAddresses),
		Long:              "Explain asks what the gateway decides with: the route that has the request, its service, releases and instances, and for every other route of the host why it is not that one. It sends nothing.",
		Example:           "  maru routes explain shop.example.com/api/orders\n  maru routes explain https://shop.example.com/ --method POST --header 'X-Beta: 1'",
		RunE: func(c *cobra.Command, args []string) error {
			request, err := explained(args[0], method, headers)
			if err != nil {
				return err
			}
			connected, err := s.connect()
			if err != nil {
				return err
			}
			answer, err := connected.Routes.ExplainRoute(c.Context(), request)
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(answer)
			}
			s.showExplanation(request, answer)
			return nil
		}}
	c.Flags().StringVar(&method, "method", "GET", "of the request")
	c.Flags().StringArrayVar(&headers, "header", nil, "'NAME: VALUE' of the request; may be repeated")
	_ = c.RegisterFlagCompletionFunc("method", cobra.FixedCompletions([]string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("header", cobra.NoFileCompletions)
	return c
}

// explained makes the request that is asked about. The path stays as it was typed.
func explained(address, method string, headers []string) (*maruv1.ExplainRouteRequest, error) {
	rest := address
	if _, after, ok := strings.Cut(address, "://"); ok {
		rest = after
	}
	rest, _, _ = strings.Cut(rest, "#")
	host, target := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		if host, target = rest[:i], rest[i:]; target[0] == '?' {
			target = "/" + target
		}
	}
	if _, err := url.Parse("http://" + host); err != nil || host == "" || strings.ContainsAny(target, " \r\n") {
		return nil, misuse{maru.WithHint(fmt.Errorf("%q is not a URL", address), "write it as https://shop.example.com/path")}
	}
	request := &maruv1.ExplainRouteRequest{Scope: &maruv1.Scope{}, Method: strings.ToUpper(method), Host: host, Target: target, Headers: map[string]string{}}
	for _, header := range headers {
		name, value, ok := strings.Cut(header, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, misuse{maru.WithHint(fmt.Errorf("%q is not a header", header), "write it as 'NAME: VALUE'")}
		}
		request.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return request, nil
}

func (s *shell) showExplanation(request *maruv1.ExplainRouteRequest, answer *maruv1.ExplainRouteResponse) {
	style := styles(s.Stdout)
	fmt.Fprintf(s.Stdout, "%s %s%s\n", style.bold(request.Method), request.Host, request.Target)
	if raw, _, _ := strings.Cut(request.Target, "?"); answer.Path != raw {
		fmt.Fprintf(s.Stdout, "  compared as %s\n", answer.Path)
	}
	if r := answer.Route; r != nil {
		fmt.Fprintf(s.Stdout, "  route    %s\n", routeText(r))
		fmt.Fprintf(s.Stdout, "  service  %s/%s in %s, port %s\n", r.Scope.App, r.Service, r.Scope.Environment, portText(answer.Port))
		for _, policy := range r.Policies {
			fmt.Fprintf(s.Stdout, "  policy   %s\n", policy)
		}
		if r.Problem != "" {
			fmt.Fprintf(s.Stdout, "  %s  %s\n", style.bad("problem"), r.Problem)
		}
	}
	for _, r := range answer.Releases {
		fmt.Fprintf(s.Stdout, "  release  %d, weight %d\n", r.Number, r.Weight)
	}
	for _, e := range answer.Endpoints {
		fmt.Fprintf(s.Stdout, "  instance %s  release %d  %s  %s\n", e.Instance, e.Release, style.state(e.State), e.Address)
	}
	if answer.Refused != "" {
		fmt.Fprintf(s.Stdout, "  %s  %s\n", style.bad("refused"), answer.Refused)
	}
	for _, beside := range answer.Others {
		fmt.Fprintf(s.Stdout, "  %s\n", style.dim("not "+routeText(beside.Route)+": "+beside.Why))
	}
	if answer.More > 0 {
		fmt.Fprintf(s.Stdout, "  %s\n", style.dim(fmt.Sprintf("and %d more", answer.More)))
	}
}

// completeAddresses gives the hosts and paths of the routes that there are.
func (s *shell) completeAddresses(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	connected, err := s.connect()
	if err != nil {
		return completed(nil, err)
	}
	list, err := connected.Routes.ListRoutes(c.Context(), &maruv1.ListRoutesRequest{Scope: &maruv1.Scope{}})
	if err != nil {
		return completed(nil, err)
	}
	var addresses []string
	for _, r := range list.Routes {
		if !strings.HasPrefix(hostText(r), "*") {
			addresses = append(addresses, r.Host+r.Path)
		}
	}
	return completed(addresses, nil)
}
