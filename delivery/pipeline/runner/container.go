package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/machine"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// evaluated is a container whose expressions have their values.
type evaluated struct {
	image   machine.Image
	env     map[string]string
	ports   []machine.Port
	options workflow.Options
}

func evaluate(c *workflow.Container, env *expr.Env) (e evaluated, err error) {
	text := func(t expr.Text) string {
		s, evalErr := t.Eval(env)
		if err == nil {
			err = evalErr
		}
		return s
	}
	e.image = machine.Image{Reference: strings.TrimPrefix(text(c.Image), "docker://"), Username: text(c.Username), Password: text(c.Password)}
	options := text(c.Options)
	if err != nil {
		return e, err
	}
	if e.options, err = workflow.ParseOptions(options); err != nil {
		return e, maru.Errorf(maru.Unsupported, "options: %w", err)
	}
	var vars variables
	if err := vars.add(c.Env, env); err != nil {
		return e, err
	}
	e.env = map[string]string{}
	for _, pair := range e.options.Env {
		name, value, _ := strings.Cut(pair, "=")
		e.env[name] = value
	}
	for _, name := range vars.names {
		e.env[name] = vars.values[name]
	}
	for _, t := range c.Ports {
		p, err := parsePort(text(t))
		if err != nil {
			return e, err
		}
		e.ports = append(e.ports, p)
	}
	return e, err
}

// parsePort reads PORT or HOST:PORT, with /tcp after it.
func parsePort(text string) (machine.Port, error) {
	rest, protocol, _ := strings.Cut(text, "/")
	if protocol != "" && protocol != "tcp" {
		return machine.Port{}, maru.WithHint(maru.Errorf(maru.Unsupported, "port %q: ports are TCP's", text), "reach other ports under the service's name")
	}
	host, container, both := strings.Cut(rest, ":")
	if !both {
		container = host
	}
	h, err := strconv.ParseUint(host, 10, 16)
	c, err2 := strconv.ParseUint(container, 10, 16)
	if err != nil || err2 != nil || h == 0 || c == 0 {
		return machine.Port{}, maru.Errorf(maru.Invalid, "port %q is neither PORT nor HOST:PORT", text)
	}
	return machine.Port{Container: uint16(c), Host: uint16(h)}, nil
}

func (e evaluated) service(name string) machine.Service {
	s := machine.Service{Name: name, Image: e.image, Env: e.env, User: e.options.User, CPUs: e.options.CPUs, Memory: e.options.Memory,
		ShmSize: e.options.ShmSize, Tmpfs: e.options.Tmpfs, Ports: e.ports}
	if e.options.Entrypoint != "" {
		s.Entrypoint = []string{e.options.Entrypoint}
	}
	if o := e.options; o.HealthCommand != "" && !o.NoHealth {
		s.Health = &machine.Health{Command: o.HealthCommand, Interval: o.HealthInterval, Timeout: o.HealthTimeout, StartPeriod: o.HealthStartPeriod, Retries: o.HealthRetries}
	}
	return s
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:8]
}

// architecture is the machine's, as workflows name it.
func architecture() string {
	switch runtime.GOARCH {
	case "amd64":
		return "X64"
	case "arm64":
		return "ARM64"
	}
	return fmt.Sprint(strings.ToUpper(runtime.GOARCH))
}
