package compose

// networkRows are the keys of networks.
func networkRows() []row {
	const s = "services.*."
	addresses := "Maru gives addresses from its own ranges, and an instance's stays while it lives."
	byNames := "let services find each other by name"
	return []row{
		honor("networks.*.name", "The name of an external network in the environment.").
			butWarned("without external", elsewhere, "Only an external network has a name of its own; this one is the app's.",
				"leave name out, or let each app that shares the network say external: true with the same name"),
		honor("networks.*.driver", "bridge or overlay, which are the same here: services on the network reach each other.").
			butRefused("host, none, macvlan, ipvlan and any other", isNot("bridge", "overlay", "default"),
				"Maru has no network drivers.", "leave driver out; for the host's own network write network_mode: host in the service"),
		warnOf("networks.*.driver_opts", "Maru has no network drivers, so their options mean nothing.", "leave driver_opts out").all(),
		warnOf("networks.*.ipam", addresses, byNames).all(),
		honor("networks.*.external", "The network belongs to the environment: apps that name it reach each other on it."),
		honor("networks.*.external.name", "The name of an external network; write name instead."),
		honor("networks.*.internal", "Services that have internal networks only can't reach out of the machine."),
		anyway("networks.*.enable_ipv4", "Every instance has an IPv4 address.").
			butWarned("false", is("false"), "Every instance has an IPv4 address all the same.", "leave enable_ipv4 out"),
		anyway("networks.*.enable_ipv6", "Every instance has an IPv6 address.").
			butWarned("false", is("false"), "Every instance has an IPv6 address all the same.", "leave enable_ipv6 out"),
		anyway("networks.*.attachable", "maru run and maru exec reach every network of their service."),
		warnOf("networks.*.labels", "Networks have no labels here.", "leave labels out"),

		honor(s+"networks", "The networks it is on. Without any it is on the one called default."),
		honor(s+"networks.*.aliases", "Further names of the service on the network."),
		warnOf(s+"networks.*.interface_name", "An instance has one network interface, eth0, whatever its networks.", "leave interface_name out"),
		warnOf(s+"networks.*.ipv4_address", addresses, byNames),
		warnOf(s+"networks.*.ipv6_address", addresses, byNames),
		warnOf(s+"networks.*.link_local_ips", addresses, byNames),
		warnOf(s+"networks.*.mac_address", "Maru gives each interface its own hardware address.", "leave mac_address out"),
		warnOf(s+"networks.*.driver_opts", "Maru has no network drivers, so their options mean nothing.", "leave driver_opts out").all(),
		warnOf(s+"networks.*.priority", "An instance has one network interface, so there is no order of networks.", "leave priority out"),
		warnOf(s+"networks.*.gw_priority", "An instance has one network interface, so there is no choice of gateways.", "leave gw_priority out"),
		anyway(s+"networks.*.use_service_name_alias", "A service is found by its name on its networks.").
			butWarned("false", is("false"), "A service is found by its name all the same.", "leave use_service_name_alias out"),

		honor(s+"network_mode", "none is no network at all; host is the host's own, which needs a grant; bridge and default are as without.").
			butRefused("service:NAME and container:NAME", begins("service:", "container:"),
				"Maru gives each instance a network of its own, which no other shares.",
				"let the services talk over a network, by name, or run both programs in one container").
			butRefused("any other", isNot("none", "host", "bridge", "default", "private"),
				"Maru knows no such network mode.", "use none or host, or name the networks under networks"),
	}
}

// namingRows are the keys of names and ports.
func namingRows() []row {
	const s = "services.*."
	return []row{
		warnOf(s+"mac_address", "Maru gives each interface its own hardware address.", "leave mac_address out"),
		honor(s+"hostname", "The host name inside the container. Others find the service by its name."),
		honor(s+"domainname", "The domain name inside the container."),
		honor(s+"dns", "Asked instead of Maru's own name server: names of services are not found then."),
		honor(s+"dns_search", "Search domains for names without a dot."),
		honor(s+"dns_opt", "Options for the resolver."),
		honor(s+"extra_hosts", "Lines of /etc/hosts; host-gateway is the machine."),
		honor(s+"links", "The alias becomes a name of the linked service on the networks they share, and it is started before."),
		refuse(s+"external_links", "Maru knows no containers but those of its apps.", "put both services on an external network"),

		honor(s+"expose", "Ports that other services use. Every port is open to them; declared ones are asked for readiness, and the first is the one for routes."),
		honor(s+"ports", "Ports of the host, which the proxy holds, so that releases never contend for one. Without a published port, the server picks one and keeps it."),
		honor(s+"ports.name", "Routes and probes can name the port."),
		anyway(s+"ports.mode", "ingress and host are the same: the proxy holds the host's port and balances to the instances."),
		honor(s+"ports.host_ip", "The address of the host to listen on."),
		honor(s+"ports.target", "The port in the container."),
		honor(s+"ports.published", "The port of the host. Of a range, the first."),
		honor(s+"ports.protocol", "tcp or udp.").
			butRefused("sctp", is("sctp"), "Maru balances TCP and UDP only.", "use tcp or udp"),
		honor(s+"ports.app_protocol", "http, h2c and grpc are balanced by request, all else by connection. Without it Maru finds out."),
	}
}
