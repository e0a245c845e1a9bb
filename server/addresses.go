package server

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// routeAddresses gives the URLs at which people reach the routes.
func (s *Server) routeAddresses(routes []maru.Route) []string {
	var all []string
	for _, r := range routes {
		if strings.HasPrefix(r.Host, "*.") {
			continue
		}
		host := orDefault(r.Host, "localhost")
		for _, door := range []struct {
			scheme     string
			port, well uint16
		}{{"http", s.cfg.HTTPPort, 80}, {"https", s.cfg.HTTPSPort, 443}} {
			if door.port == 0 {
				continue
			}
			at := host
			if door.port != door.well {
				at = net.JoinHostPort(host, strconv.Itoa(int(door.port)))
			}
			all = append(all, door.scheme+"://"+at+r.Path)
		}
	}
	return unique(all)
}

// publishAddresses gives the published ports as HOST:PORT/PROTOCOL.
func publishAddresses(ports []maru.PublishedPort) []string {
	var all []string
	for _, p := range ports {
		if p.HostPort == 0 {
			continue
		}
		host := p.HostIP
		if host == "" || host == "0.0.0.0" || host == "::" {
			host = "localhost"
		}
		all = append(all, fmt.Sprintf("%s/%s", net.JoinHostPort(host, strconv.Itoa(int(p.HostPort))), p.Target.Protocol))
	}
	return unique(all)
}

func unique(all []string) []string {
	var out []string
	for _, a := range all {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
