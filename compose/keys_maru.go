package compose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// extensionKey is what Maru's own keys stand under.
const extensionKey = "x-maru"

// maruKeys are what a service says under x-maru.
type maruKeys struct {
	routes    []routeKeys
	health    *healthKeys
	protocol  *node // one for all ports, or by port
	proxied   *node // version of the PROXY header likewise
	release   *maru.ReleaseStep
	seed      *maru.ReleaseStep
	after     *maru.ReleaseStep
	rollout   rolloutKeys
	allow     allowKeys
	timeout   time.Duration
	retry     maru.Retry
	balance   maru.Balance
	limits    maru.Limits
	priority  maru.Priority
	faults    []maru.Fault
	drain     time.Duration
	min       int // of scale
	goPackage string
	goVersion string
}

// routeKeys is a route whose port may still be a name.
type routeKeys struct {
	maru.Route
	port *node
	at   *node
	path string
}

// healthKeys is a probe whose port may still be a name.
type healthKeys struct {
	probe maru.Probe
	port  *node
	live  bool
}

// decodeKeys reads x-maru at the top of the files and in the active services.
func (l *load) decodeKeys() {
	d := decoder{l}
	if n := l.src.get(extensionKey); n != nil && n.kind != nullNode {
		d.app(n, extensionKey)
	}
	services := l.src.get("services")
	if services == nil || services.kind != mappingNode {
		return
	}
	for _, name := range services.names {
		service := services.fields[name]
		if n := service.get(extensionKey); n != nil && n.kind != nullNode && l.active(service) {
			l.byName[name] = d.service(n, "services."+name+"."+extensionKey)
		}
	}
}

func (d decoder) app(n *node, path string) {
	if !d.mapping(n, path, "environments", "ci") {
		return
	}
	if ci := n.get("ci"); ci != nil {
		d.l.ci = d.choice(ci, joinKey(path, "ci"), "maru", "github", "none")
	}
	environments := n.get("environments")
	if environments == nil || environments.kind == nullNode {
		return
	}
	path = joinKey(path, "environments")
	if environments.kind != mappingNode {
		d.invalid(environments, path, "must be a mapping of environments by name", "")
		return
	}
	d.l.app.Environments = map[string]maru.EnvironmentPolicy{}
	for _, name := range environments.names {
		if err := maru.CheckName("environment", name); err != nil {
			d.l.failErr(environments.fields[name].key, joinKey(path, name), maru.Invalid, err)
		}
		d.l.app.Environments[name] = d.environment(environments.fields[name], joinKey(path, name))
	}
	for _, name := range environments.names {
		d.clone(environments.fields[name], joinKey(path, name), name)
	}
}

// environmentFields are the keys of an entry of x-maru.environments.
var environmentFields = []string{"branch", "clone", "deploy", "domain", "limit", "share", "ttl"}

// maxPreviews is the most that limit can say.
const maxPreviews = 1000

func (d decoder) environment(n *node, path string) maru.EnvironmentPolicy {
	if n.kind == nullNode || !d.mapping(n, path, environmentFields...) {
		return maru.EnvironmentPolicy{}
	}
	policy := maru.EnvironmentPolicy{
		Branch: d.text(n.get("branch"), joinKey(path, "branch")),
		Deploy: d.choice(n.get("deploy"), joinKey(path, "deploy"), "auto", "manual"),
		TTL:    d.duration(n.get("ttl"), joinKey(path, "ttl")),
		Clone:  d.text(n.get("clone"), joinKey(path, "clone")),
	}
	if limit := n.get("limit"); limit != nil {
		policy.Limit = d.integer(limit, joinKey(path, "limit"), 1, maxPreviews)
	}
	if share := n.get("share"); share != nil {
		policy.Share = d.list(share, joinKey(path, "share"))
	}
	if domain := n.get("domain"); domain != nil {
		policy.Domain = d.host(domain, joinKey(path, "domain"), d.text(domain, joinKey(path, "domain")))
	}
	preview := strings.Contains(policy.Branch, "*")
	for _, key := range []string{"ttl", "limit", "clone"} {
		if field := n.get(key); field != nil && !preview {
			d.invalid(field, joinKey(path, key), "is for previews: environments whose branch has a star", `write branch: "*", or leave it out`)
		}
	}
	if strings.HasPrefix(policy.Domain, "*.") && !preview {
		d.invalid(n.get("domain"), joinKey(path, "domain"), "has a star, and the environment is that of one branch", "write the domain without it")
	}
	return policy
}

// clone holds an environment that begins with another's volumes against what that one says.
func (d decoder) clone(n *node, path, name string) {
	from := d.l.app.Environments[name].Clone
	if from == "" {
		return
	}
	other, known := d.l.app.Environments[from]
	switch {
	case !known:
		d.invalid(n.get("clone"), joinKey(path, "clone"), fmt.Sprintf("names the environment %q, which is not here", from), "name one of x-maru.environments")
	case strings.Contains(other.Branch, "*"):
		d.invalid(n.get("clone"), joinKey(path, "clone"), fmt.Sprintf("names %s, which is no environment of its own but one for each branch", from), "name one without a star in its branch")
	case !slices.Contains(other.Share, name):
		d.invalid(n.get("clone"), joinKey(path, "clone"), fmt.Sprintf("names %s, which does not share its volumes with %s", from, name), fmt.Sprintf("if it may, write share: [%s] in %s", name, from))
	}
}

// serviceKeys are the keys of x-maru in a service.
var serviceKeys = []string{
	"after", "allow", "balance", "drain", "faults", "go", "health", "limits", "maintenance", "priority", "protocol", "proxy_protocol", "release", "retry",
	"rollout", "route", "scale", "seed", "timeout",
}

func (d decoder) service(n *node, path string) maruKeys {
	var k maruKeys
	if !d.mapping(n, path, serviceKeys...) {
		return k
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	k.routes = d.routes(at("route"))
	k.close(d.maintenance(at("maintenance")))
	k.health = d.health(at("health"))
	k.protocol = d.byPort(protocols...)(at("protocol"))
	k.proxied = d.byPort("v1", "v2")(at("proxy_protocol"))
	k.release = d.step("release")(at("release"))
	k.seed = d.step("seed")(at("seed"))
	k.after = d.step("after")(at("after"))
	k.rollout = d.rollout(at("rollout"))
	k.allow = d.allow(at("allow"))
	k.timeout = d.duration(at("timeout"))
	k.retry = d.retry(at("retry"))
	k.balance = d.balance(at("balance"))
	k.limits = d.limits(at("limits"))
	k.priority = d.priority(at("priority"))
	k.faults = d.faults(at("faults"))
	k.drain = d.duration(at("drain"))
	k.min = d.scale(at("scale"))
	k.goPackage, k.goVersion = d.goBuild(at("go"))
	return k
}

// close has every route that says nothing of maintenance do what the service says.
func (k *maruKeys) close(m *maru.Maintenance) {
	if m == nil {
		return
	}
	for i := range k.routes {
		r := &k.routes[i].Route
		if r.Policy == nil {
			r.Policy = &maru.RoutePolicy{}
		}
		if r.Policy.Maintenance == nil {
			r.Policy.Maintenance = m
		}
	}
}

// protocols are what can be spoken on a port.
var protocols = []string{"http", "h2c", "grpc", "tcp"}

// byPort reads one of the words for all ports, or one by port.
func (d decoder) byPort(words ...string) func(n *node, path string) *node {
	return func(n *node, path string) *node {
		switch {
		case n == nil || n.kind == nullNode:
			return nil
		case n.kind != mappingNode:
			d.choice(n, path, words...)
			return n
		}
		for _, name := range n.names {
			d.choice(n.fields[name], joinKey(path, name), words...)
		}
		return n
	}
}

// step reads a one-off of the key.
func (d decoder) step(key string) func(n *node, path string) *maru.ReleaseStep {
	return func(n *node, path string) *maru.ReleaseStep {
		if n == nil || n.kind == nullNode {
			return nil
		}
		step := &maru.ReleaseStep{}
		command, at := n, path
		if n.kind == mappingNode {
			if !d.mapping(n, path, "command", "timeout") {
				return nil
			}
			step.Timeout = d.duration(n.get("timeout"), joinKey(path, "timeout"))
			command, at = n.get("command"), joinKey(path, "command")
		}
		if step.Command = d.command(command, at); len(step.Command) == 0 {
			d.invalid(n, path, "lacks the command to run", fmt.Sprintf("write %s: ./script, or %s: {command: [./script, all]}", key, key))
		}
		return step
	}
}

func (d decoder) retry(n *node, path string) maru.Retry {
	if n == nil || n.kind == nullNode {
		return maru.Retry{}
	}
	var r maru.Retry
	attempts, at := n, path
	if n.kind == mappingNode {
		if !d.mapping(n, path, "attempts", "hedge") {
			return r
		}
		d.hedge(n.get("hedge"), joinKey(path, "hedge"), &r)
		attempts, at = n.get("attempts"), joinKey(path, "attempts")
	}
	if attempts == nil {
		return r
	}
	r.Attempts = d.integer(attempts, at, 0, 10)
	if r.Attempts == 0 {
		r.Attempts = -1
	}
	return r
}

// hedge reads after which time a second instance is asked: a duration, or that in which a part of the requests
// is answered.
func (d decoder) hedge(n *node, path string, r *maru.Retry) {
	if n == nil || n.kind == nullNode {
		return
	}
	if !strings.HasSuffix(n.text(), "%") {
		r.HedgeAfter = d.duration(n, path)
		return
	}
	if r.HedgeAt = d.percent(n, path) / 100; r.HedgeAt < 0.5 || r.HedgeAt == 1 {
		d.invalid(n, path, "must be a duration, or at least 50% and less than 100%", "write it as 50ms or 95%")
	}
}

// scale reads the least number of instances. The rest of it waits for the autoscaler.
func (d decoder) scale(n *node, path string) int {
	if n == nil || n.kind == nullNode || !d.mapping(n, path, "min", "max", "concurrency", "cpu") {
		return 0
	}
	least := d.integer(n.get("min"), joinKey(path, "min"), 0, 1000)
	for _, name := range []string{"max", "concurrency", "cpu"} {
		field := n.get(name)
		if field == nil {
			continue
		}
		d.integer(field, joinKey(path, name), 1, 1_000_000)
		d.l.warn(field.key, joinKey(path, name), "Services are not scaled by themselves yet: as many instances run as min says.", "scale by hand with maru scale")
	}
	if zero := n.get("min"); zero != nil && least == 0 {
		d.l.warn(zero.key, joinKey(path, "min"), "Services are not scaled to nothing yet: one instance runs.", "")
		return 1
	}
	return least
}

var goVersionForm = regexp.MustCompile(`^1\.\d+(\.\d+|rc\d+)?$`)

func (d decoder) goBuild(n *node, path string) (pkg, version string) {
	if n == nil || n.kind == nullNode || !d.mapping(n, path, "package", "version") {
		return "", ""
	}
	pkg = d.text(n.get("package"), joinKey(path, "package"))
	version = strings.TrimPrefix(d.text(n.get("version"), joinKey(path, "version")), "go")
	if version != "" && !goVersionForm.MatchString(version) {
		d.invalid(n.get("version"), joinKey(path, "version"), "is not a version of Go", `write it as "1.26.8", in quotes`)
	}
	return pkg, version
}
