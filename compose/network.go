package compose

import (
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// networks puts the service on its networks.
func (s *service) networks() {
	if s.in.NetworkMode == "none" || s.in.NetworkMode == "host" {
		s.out.Container.Host.HostNetwork = s.in.NetworkMode == "host"
		if s.out.Container.Host.HostNetwork && len(s.in.Ports) > 0 {
			s.warn("A service on the host's own network listens there itself: its ports are not published.", "leave ports out", "ports")
		}
		return
	}
	joined := s.in.Networks
	if len(joined) == 0 {
		joined = map[string]*types.ServiceNetworkConfig{"default": nil}
	}
	s.out.Networks = map[string]maru.Attachment{}
	for _, name := range sortedKeys(joined) {
		s.l.network(name)
		var aliases []string
		if joined[name] != nil {
			for i, alias := range joined[name].Aliases {
				aliases = s.alias(aliases, alias, "networks", name, "aliases", fmt.Sprint(i))
			}
			s.fixedAddress(joined[name].Ipv4Address, name, "ipv4_address")
			s.fixedAddress(joined[name].Ipv6Address, name, "ipv6_address")
		}
		if s.in.ContainerName != "" && s.in.ContainerName != s.name {
			aliases = s.alias(aliases, strings.ToLower(s.in.ContainerName), "container_name")
		}
		s.out.Networks[name] = maru.Attachment{Aliases: aliases}
	}
	s.out.DNSRoundRobin = s.in.Deploy != nil && s.in.Deploy.EndpointMode == "dnsrr"
}

func (s *service) alias(aliases []string, alias string, path ...string) []string {
	if err := maru.CheckName("alias", alias); err != nil {
		s.l.failErr(s.at(path...), s.path(path...), maru.Invalid, err)
		return aliases
	}
	return withAlias(aliases, alias)
}

// fixedAddress refuses an address that others are told of: they would not find the service there.
func (s *service) fixedAddress(address, network, key string) {
	if address == "" {
		return
	}
	own := s.path("networks", network, key)
	s.l.src.get("services").scalars("services", func(path string, n *node) {
		if path != own && mentions(n.text(), address) && s.l.active(s.l.src.get("services", serviceOf(path))) {
			s.l.fail(n.pos, path, maru.Unsupported, fmt.Sprintf("%s is the address that %s is to have, and Maru gives addresses itself", address, s.name),
				fmt.Sprintf("write %s in its place: services find each other by name", s.name))
		}
	})
}

func serviceOf(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "services."), ".")
	return name
}

// mentions tells whether the text has the address in it, as a whole.
func mentions(text, address string) bool {
	i := strings.Index(text, address)
	if i < 0 {
		return false
	}
	rest := text[i+len(address):]
	return rest == "" || !strings.ContainsAny(rest[:1], "0123456789abcdef.") && (i == 0 || !strings.ContainsAny(text[i-1:i], "0123456789."))
}

// network adds a network that a service is on.
func (l *load) network(key string) {
	if _, ok := l.app.Networks[key]; ok {
		return
	}
	in := l.proj.Networks[key]
	if err := maru.CheckName("network", key); err != nil {
		l.failErr(l.place("networks", key), "networks."+key, maru.Invalid, err)
	}
	out := maru.Network{Internal: in.Internal}
	if in.External {
		out.External, out.Name = true, in.Name
		l.checkExternal("network", "networks", key, in.Name)
	} else if l.src.get("networks", key, "name") != nil {
		e := exceptionOf("networks.*.name")
		l.warn(l.place("networks", key, "name"), "networks."+key+".name", e.means, e.instead)
	}
	l.app.Networks[key] = out
}

// checkExternal checks the name of what belongs to the environment.
func (l *load) checkExternal(what, section, key, name string) {
	if err := maru.CheckName(what, name); err != nil {
		l.failErr(l.place(section, key, "name"), section+"."+key, maru.Invalid, err)
	}
}

// traefik tells of labels that would configure Traefik, and what to write for them.
func (s *service) traefik(labels map[string]string) {
	for _, name := range sortedKeys(labels) {
		if !strings.HasPrefix(name, "traefik.http.routers.") || !strings.HasSuffix(name, ".rule") {
			continue
		}
		hint := "x-maru: {route: HOST}"
		if host := ruleHost(labels[name]); host != "" {
			hint = "x-maru: {route: " + host + "}"
		}
		path := []string{"labels"}
		if s.has("labels", name) {
			path = append(path, name)
		} else if !s.has("labels") {
			path = []string{"deploy", "labels"}
		}
		s.warn("Maru's gateway does not read labels for Traefik.", hint, path...)
		return
	}
}

// ruleHost gives the host of a rule such as Host(`shop.example.com`).
func ruleHost(rule string) string {
	_, rest, ok := strings.Cut(rule, "Host(`")
	if !ok {
		return ""
	}
	host, _, _ := strings.Cut(rest, "`")
	return host
}

// exceptionOf gives the first exception of a row whose condition is not in the value itself.
func exceptionOf(key string) exception { return table()[key].but[0] }
