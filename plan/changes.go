package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Changes tells what [Deploy] would do to each service, sorted by name, and what it would submit. A
// service without an image in the deployment counts as having the same as before: it is built or
// pulled first.
func Changes(now time.Time, s AppState, d maru.Deployment) ([]maru.ServiceChange, Submission, error) {
	b := newSubmission(now, s, CauseDeploy, d.By)
	d, unknown := assumeImages(s, b.goals, d)
	verdicts, err := b.judge(d)
	if err != nil {
		return nil, Submission{}, err
	}
	var out []maru.ServiceChange
	for _, v := range verdicts {
		c := maru.ServiceChange{Service: v.name, Action: v.action, Note: v.note()}
		if v.action == maru.ChangeUpdate {
			c.Strategy = cmpOr(v.candidate.Spec.Update.Strategy, maru.Rolling)
		}
		if v.before.Number != 0 {
			c.Differences = Differences(v.before, v.candidate)
			if g := b.goals[v.name]; v.action == maru.ChangeScale {
				c.Differences = append(c.Differences, maru.Difference{
					Path: "replicas", From: maru.Itoa(g.state.Replicas), To: maru.Itoa(v.candidate.Spec.Replicas)})
			}
		}
		if unknown[v.name] && v.action == maru.ChangeNone {
			c.Note = "unless its image turns out to be another"
		}
		out = append(out, c)
	}
	if len(d.Services) == 0 {
		for name := range b.goals {
			if _, stays := d.App.Services[name]; !stays {
				out = append(out, maru.ServiceChange{Service: name, Action: maru.ChangeRemove, Note: "its volumes stay"})
			}
		}
	}
	slices.SortFunc(out, func(a, b maru.ServiceChange) int { return strings.Compare(a.Service, b.Service) })
	sub, err := Deploy(now, s, d)
	return out, sub, err
}

func cmpOr(a, b maru.Strategy) maru.Strategy {
	if a != "" {
		return a
	}
	return b
}

// assumeImages gives the services without an image the one that they have.
func assumeImages(s AppState, goals map[string]goal, d maru.Deployment) (maru.Deployment, map[string]bool) {
	images := map[string]maru.Image{}
	unknown := map[string]bool{}
	for _, name := range selected(d) {
		if image, ok := d.Images[name]; ok {
			images[name] = image
			continue
		}
		unknown[name] = true
		before := s.Releases[name][goals[name].release]
		images[name] = maru.Image{Reference: before.Image, Config: maru.ImageConfig{Ports: before.Spec.Expose}}
	}
	d.Images = images
	return d, unknown
}

// Differences lists what differs between two releases of a service, as far as it matters to its
// instances or their traffic, by path. Values that may be secret are masked.
func Differences(from, to maru.Release) []maru.Difference {
	a, b := map[string]string{}, map[string]string{}
	flatten(a, "", tree(from))
	flatten(b, "", tree(to))
	paths := sortedKeys(a)
	for path := range b {
		if _, both := a[path]; !both {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	var out []maru.Difference
	for _, path := range paths {
		if a[path] != b[path] {
			out = append(out, maru.Difference{Path: path, From: mask(path, a[path]), To: mask(path, b[path])})
		}
	}
	return out
}

func tree(r maru.Release) any {
	e := essenceOf(r)
	var spec map[string]any
	if err := json.Unmarshal(maru.Raw(e.Spec), &spec); err != nil {
		panic("plan: " + err.Error()) // it was just encoded
	}
	spec["image"] = e.Image
	for key, n := range e.Networks {
		spec["networks."+key] = n
	}
	for key, v := range e.Volumes {
		spec["volumes."+key] = v
	}
	for key, c := range e.Configs {
		spec["configs."+key] = string(c.Content)
	}
	for key, v := range e.Secrets {
		spec["secrets."+key] = fmt.Sprintf("%s version %d", v.Name, v.Version)
	}
	return spec
}

// flatten notes each value of a JSON tree by its path. Lists count as one value.
func flatten(into map[string]string, path string, v any) {
	if m, ok := v.(map[string]any); ok {
		for key, child := range m {
			flatten(into, strings.TrimPrefix(path+"."+key, "."), child)
		}
		return
	}
	if text, ok := v.(string); ok {
		into[path] = text
		return
	}
	into[path] = string(maru.Raw(v))
}

const (
	masked     = "•••"
	valueShown = 120 // bytes
)

// mask hides what may be secret: the content of files, and of variables whose name says so.
func mask(path, value string) string {
	if value == "" {
		return ""
	}
	name, isEnv := strings.CutPrefix(path, "container.env.")
	if strings.HasPrefix(path, "configs.") || isEnv && sounds(name) {
		return masked
	}
	if len(value) > valueShown {
		return strings.ToValidUTF8(value[:valueShown], "") + "…"
	}
	return value
}

// sounds tells whether a variable's name sounds as if its value were secret.
func sounds(name string) bool {
	name = strings.ToUpper(name)
	return slices.ContainsFunc([]string{"PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "PRIVATE", "DSN", "DATABASE_URL"},
		func(part string) bool { return strings.Contains(name, part) })
}
