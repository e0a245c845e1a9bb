package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// DefaultPreviews is how many previews there may be of an entry that does not say.
const DefaultPreviews = 10

// longestLabel is how long a label of a host name may be.
const longestLabel = 63

// Target is where a branch is deployed.
type Target struct {
	Environment string
	Of          string // its entry; the same, but for a preview
	Preview     bool   // the environment is the branch's own
	Policy      maru.EnvironmentPolicy
	Domain      string // where its routes are; "": where the file has them
}

// Manual tells whether a deploy there waits for approval.
func (t Target) Manual() bool { return t.Policy.Deploy == "manual" }

// Expires is until when an environment stays that is used now; zero: as long as its branch.
func (t Target) Expires(now time.Time) time.Time {
	if t.Policy.TTL <= 0 {
		return time.Time{}
	}
	return now.Add(t.Policy.TTL)
}

// Limit is how many previews there may be of the entry.
func (t Target) Limit() int {
	if t.Policy.Limit <= 0 {
		return DefaultPreviews
	}
	return t.Policy.Limit
}

// Clone is the environment whose volumes a preview begins with: one that the entry names, and that shares them
// with it. "": none.
func (t Target) Clone(environments map[string]maru.EnvironmentPolicy) string {
	from := t.Policy.Clone
	if !t.Preview || from == "" || !slices.Contains(environments[from].Share, t.Of) {
		return ""
	}
	return from
}

// Entry is the target of what is deployed to an environment that is no preview, whatever its branch.
func Entry(environment string, environments map[string]maru.EnvironmentPolicy) Target {
	policy := environments[environment]
	t := Target{Environment: environment, Of: environment, Policy: policy}
	if !strings.Contains(policy.Domain, "*") {
		t.Domain = policy.Domain
	}
	return t
}

// preview is the target of one branch of an entry with a pattern.
func preview(of, branch string, environments map[string]maru.EnvironmentPolicy) Target {
	t := Target{Of: of, Preview: true, Policy: environments[of], Environment: perBranch(of, branch, environments)}
	label := domainLabel(branch)
	switch domain := t.Policy.Domain; {
	case domain == "":
	case strings.HasPrefix(domain, "*."):
		t.Domain = label + domain[1:]
	default:
		t.Domain = label + "." + domain
	}
	return t
}

// perBranch names the environment of one branch. Branches whose names have to be changed for that are kept
// apart by a digest, and so are those whose name another entry has, or could give to a branch of its own.
func perBranch(of, branch string, environments map[string]maru.EnvironmentPolicy) string {
	plain := of + "-" + branch
	taken := func(name string) bool {
		for other := range environments {
			if other == name || len(other) > len(of) && strings.HasPrefix(name, other+"-") {
				return true
			}
		}
		return name == maru.DefaultEnvironment
	}
	if simple(branch) && maru.CheckName("environment", plain) == nil && !taken(plain) {
		return plain
	}
	digest := digestOf(branch)
	begin := strings.TrimRight(of[:min(len(of), 20)], "-_.") + "-"
	name := begin + strings.Trim(lower(branch), "-")
	const room = 63 - 1 - 8
	name = strings.TrimRight(name[:min(len(name), room)], "-") + "-" + digest
	if taken(name) {
		name = begin + digestOf(of+"\x00"+branch) + digest
	}
	return name
}

// domainLabel is a branch as a label of a host name (RFC 1123).
func domainLabel(branch string) string {
	if simple(branch) && len(branch) <= longestLabel && strings.Trim(branch, "-") == branch && !strings.HasPrefix(branch, "xn--") {
		return branch
	}
	name := strings.Trim(lower(branch), "-")
	const room = longestLabel - 1 - 8
	name = strings.Trim(name[:min(len(name), room)], "-")
	if name == "" || strings.HasPrefix(name, "xn--") {
		return "b-" + digestOf(branch)
	}
	return name + "-" + digestOf(branch)
}

// simple tells whether the name has nothing but what a label of a host name may have.
func simple(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// lower gives the name with what is not simple changed.
func lower(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name)
}

// digestOf tells apart what is named alike: 8 hexadecimal digits.
func digestOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:4])
}

// Place gives the app with its routes at the domain of an environment. The host that production has, or the
// only one there is, becomes the domain; hosts below it are below the domain, and so are all others by their
// whole names. What is at the domain already stays. In a preview no port of the host is the app's choice.
func Place(app maru.App, domain string, preview bool) maru.App {
	if domain == "" && !preview {
		return app
	}
	base := baseHost(app)
	app.Services = maps.Clone(app.Services)
	for name, service := range app.Services {
		if domain != "" {
			service.Routes = slices.Clone(service.Routes)
			for i, r := range service.Routes {
				service.Routes[i].Host = placeHost(r.HostName(), base, domain)
			}
		}
		if preview {
			service.Publish = slices.Clone(service.Publish)
			for i := range service.Publish {
				service.Publish[i].HostPort = 0
			}
		}
		app.Services[name] = service
	}
	return app
}

// baseHost is the host that stands for the app as a whole; "": there are several and none stands out.
func baseHost(app maru.App) string {
	if domain := app.Environments[maru.DefaultEnvironment].Domain; domain != "" {
		return domain
	}
	hosts := map[string]bool{}
	for _, service := range app.Services {
		for _, r := range service.Routes {
			if host := strings.TrimPrefix(r.HostName(), "*."); host != "" {
				hosts[host] = true
			}
		}
	}
	for _, base := range sortedKeys(hosts) {
		apart := slices.ContainsFunc(sortedKeys(hosts), func(h string) bool { return h != base && !strings.HasSuffix(h, "."+base) })
		if !apart {
			return base
		}
	}
	return ""
}

func placeHost(host, base, domain string) string {
	if rest, wild := strings.CutPrefix(host, "*."); wild {
		return "*." + placeHost(rest, base, domain)
	}
	switch {
	case host == "" || host == base || host == domain || strings.HasSuffix(host, "."+domain):
		if host == "" || host == base {
			return domain
		}
		return host
	case base != "" && strings.HasSuffix(host, "."+base):
		return strings.TrimSuffix(host, base) + domain
	}
	label := strings.ReplaceAll(host, ".", "-")
	if len(label) > longestLabel {
		label = strings.TrimRight(label[:longestLabel-9], "-") + "-" + digestOf(host)
	}
	return label + "." + domain
}
