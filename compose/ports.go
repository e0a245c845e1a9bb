package compose

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// ports reads what is published, what is exposed, and what is spoken there.
func (s *service) ports() {
	for _, p := range s.in.Ports {
		target := maru.Port{Port: uint16(p.Target), Protocol: maru.TCP, App: appProtocol(p.AppProtocol)}
		at := s.portPlace(p.Target)
		if p.Target == 0 || p.Target > 65535 {
			s.fail(maru.Invalid, fmt.Sprintf("%d is not a port", p.Target), "a port is 1 to 65535", at...)
			continue
		}
		switch p.Protocol {
		case "", "tcp":
		case "udp":
			target.Protocol, target.App = maru.UDP, ""
		default:
			s.fail(maru.Unsupported, "Maru balances TCP and UDP only, not "+p.Protocol, "use tcp or udp", at...)
			continue
		}
		if s.out.Container.Host.HostNetwork {
			s.expose(target)
			continue
		}
		s.out.Publish = append(s.out.Publish, maru.PublishedPort{
			HostIP: s.hostIP(p.HostIP, at), HostPort: s.hostPort(p.Published, at), Target: target})
	}
	for i, text := range s.in.Expose {
		s.exposed(text, i)
	}
	s.protocols()
}

// portPlace gives the path of the item that publishes a port.
func (s *service) portPlace(target uint32) []string {
	if list := s.node("ports"); list != nil && list.kind == listNode {
		for i, item := range list.items {
			text := item.text() + item.get("target").text()
			if text, _, _ = strings.Cut(text, "/"); text == strconv.Itoa(int(target)) || strings.HasSuffix(text, ":"+strconv.Itoa(int(target))) {
				return []string{"ports", strconv.Itoa(i)}
			}
		}
	}
	return []string{"ports"}
}

func (s *service) hostIP(text string, at []string) string {
	if text == "" || text == "0.0.0.0" || text == "::" || text == "[::]" {
		return ""
	}
	ip, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		s.fail(maru.Invalid, fmt.Sprintf("%q is not an address of the host", text), "write an IP address, such as 127.0.0.1", at...)
		return ""
	}
	return ip.String()
}

func (s *service) hostPort(text string, at []string) uint16 {
	if text == "" || text == "0" {
		return 0
	}
	first, _, ranged := strings.Cut(text, "-")
	port, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		s.fail(maru.Invalid, fmt.Sprintf("%q is not a port of the host", text), "a port is 1 to 65535", at...)
	} else if ranged {
		s.warn(fmt.Sprintf("One port of the host leads to all instances: %s of the range.", first), "write "+first, at...)
	}
	return uint16(port)
}

// appProtocol gives what Maru calls an application protocol. What it does not balance by request is tcp.
func appProtocol(name string) string {
	switch strings.ToLower(name) {
	case "":
		return ""
	case "http", "ws", "kubernetes.io/ws":
		return "http"
	case "h2c", "http2", "kubernetes.io/h2c":
		return "h2c"
	case "grpc":
		return "grpc"
	}
	return "tcp"
}

func (s *service) exposed(text string, i int) {
	ports, protocol, _ := strings.Cut(text, "/")
	first, final, ranged := strings.Cut(ports, "-")
	from, err := strconv.ParseUint(first, 10, 16)
	to := from
	if ranged && err == nil {
		to, err = strconv.ParseUint(final, 10, 16)
	}
	at := []string{"expose", strconv.Itoa(i)}
	switch {
	case err != nil || from == 0 || to < from:
		s.fail(maru.Invalid, fmt.Sprintf("%q is not a port", text), `write it as "3000", "3000-3005" or "53/udp"`, at...)
		return
	case to-from >= maxPorts:
		s.fail(maru.Invalid, fmt.Sprintf("%q has more than %d ports", text, maxPorts), "every port is open to other services: name those that are asked for readiness", at...)
		return
	case protocol != "" && protocol != "tcp" && protocol != "udp":
		s.fail(maru.Unsupported, "Maru balances TCP and UDP only, not "+protocol, "use tcp or udp", at...)
		return
	}
	if protocol == "" {
		protocol = "tcp"
	}
	for port := from; port <= to; port++ {
		s.expose(maru.Port{Port: uint16(port), Protocol: maru.Protocol(protocol)})
	}
}

// expose adds a port unless the service has it.
func (s *service) expose(port maru.Port) {
	if !s.declared(port.Port, port.Protocol) {
		s.out.Expose = append(s.out.Expose, port)
	}
}

func (s *service) declared(port uint16, protocol maru.Protocol) bool {
	return slices.ContainsFunc(s.out.Expose, func(p maru.Port) bool { return p.Port == port && p.Protocol == protocol }) ||
		slices.ContainsFunc(s.out.Publish, func(p maru.PublishedPort) bool {
			return p.Target.Port == port && p.Target.Protocol == protocol
		})
}

// port finds the port that a key of x-maru names, by number or by the name it has under ports.
func (s *service) port(n *node, path string) uint16 {
	if n == nil || n.kind == nullNode {
		return 0
	}
	if number, err := strconv.ParseUint(n.text(), 10, 16); err == nil && number > 0 {
		return uint16(number)
	}
	var names []string
	for _, p := range s.in.Ports {
		if p.Name != "" && p.Name == n.text() {
			return uint16(p.Target)
		}
		names = append(names, p.Name)
	}
	s.l.fail(n.key, path, maru.Invalid, fmt.Sprintf("there is no port %q", n.text()), didYouMean(n.text(), slices.DeleteFunc(names, func(name string) bool { return name == "" })))
	return 0
}

// protocols sets what x-maru.protocol says is spoken, and x-maru.proxy_protocol what connections begin with.
func (s *service) protocols() {
	s.byPort("protocol", s.keys.protocol, func(p *maru.Port, word string) { p.App = word })
	s.byPort("proxy_protocol", s.keys.proxied, func(p *maru.Port, word string) { p.ProxyProtocol = map[string]int{"v1": 1, "v2": 2}[word] })
}

// byPort sets what a key says of a TCP port, or of all that there are.
func (s *service) byPort(name string, n *node, set func(p *maru.Port, word string)) {
	path := s.path(extensionKey, name)
	if n == nil {
		return
	}
	if n.kind == mappingNode {
		for _, number := range n.names {
			key := *n.fields[number]
			key.kind, key.value = scalarNode, number
			if port := s.port(&key, joinKey(path, number)); port != 0 {
				s.expose(maru.Port{Port: port, Protocol: maru.TCP})
				s.setPort(port, n.fields[number].text(), set)
			}
		}
		return
	}
	for _, r := range s.keys.routes {
		if port := s.port(r.port, joinKey(r.path, "port")); port != 0 {
			s.expose(maru.Port{Port: port, Protocol: maru.TCP})
		}
	}
	if len(s.out.Expose)+len(s.out.Publish) == 0 {
		s.l.fail(n.key, path, maru.Invalid, "the file says no port that it could be spoken on", fmt.Sprintf(`write %s: {"PORT": %s}, or name the port under expose`, name, n.text()))
	}
	s.setPort(0, n.text(), set)
}

// setPort sets what is said of a TCP port, or of all with 0.
func (s *service) setPort(port uint16, word string, set func(p *maru.Port, word string)) {
	for i, p := range s.out.Expose {
		if p.Protocol == maru.TCP && (port == 0 || p.Port == port) {
			set(&s.out.Expose[i], word)
		}
	}
	for i, p := range s.out.Publish {
		if p.Target.Protocol == maru.TCP && (port == 0 || p.Target.Port == port) {
			set(&s.out.Publish[i].Target, word)
		}
	}
}

// checkHostPorts reports two services that want the same port of the host.
func checkHostPorts(all map[string]*service) {
	type hostPort struct {
		port     uint16
		protocol maru.Protocol
	}
	taken := map[hostPort]map[string]string{} // services by address
	for _, name := range sortedKeys(all) {
		s := all[name]
		for _, p := range s.out.Publish {
			id := hostPort{p.HostPort, p.Target.Protocol}
			if p.HostPort == 0 {
				continue
			}
			for _, ip := range sortedKeys(taken[id]) {
				if ip == p.HostIP || ip == "" || p.HostIP == "" {
					s.fail(maru.Invalid, fmt.Sprintf("the port %d of the host leads to %s already", p.HostPort, taken[id][ip]), "publish it on another port", s.portPlace(uint32(p.Target.Port))...)
					break
				}
			}
			if taken[id] == nil {
				taken[id] = map[string]string{}
			}
			taken[id][p.HostIP] = name
		}
	}
}

// routes sets the routes, and declares the ports that they lead to.
func (s *service) routes() {
	if len(s.keys.routes) > 0 && s.in.NetworkMode == "none" {
		s.fail(maru.Invalid, "a service without a network can't be reached by a route", "leave network_mode out", extensionKey, "route")
	}
	for _, r := range s.keys.routes {
		r.Port = s.port(r.port, joinKey(r.path, "port"))
		if r.Port != 0 {
			s.expose(maru.Port{Port: r.Port, Protocol: maru.TCP})
		}
		if p := r.Policy; p != nil && p.Auth != nil && p.Auth.Secret != "" {
			s.l.secret(p.Auth.Secret)
		}
		s.out.Routes = append(s.out.Routes, r.Route)
		if !r.PassesThrough() && s.proxied(r.Port) {
			s.l.fail(r.at.key, r.path, maru.Invalid, "requests of many clients go by one connection, which can't begin with the PROXY header of one",
				"services learn the client of each request from X-Forwarded-For: give proxy_protocol by port, or write tls: passthrough")
		}
	}
}

// proxied tells whether connections to the port, or for 0 to any, begin with a PROXY header.
func (s *service) proxied(port uint16) bool {
	is := func(p maru.Port) bool { return p.ProxyProtocol != 0 && (port == 0 || p.Port == port) }
	return slices.ContainsFunc(s.out.Expose, is) || slices.ContainsFunc(s.out.Publish, func(p maru.PublishedPort) bool { return is(p.Target) })
}
