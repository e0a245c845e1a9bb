package compose

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// form is what a value must be that the schema lets pass as any string.
type form struct {
	check func(text string) error
	hint  string
}

var (
	durationForm = form{func(text string) error { _, err := parseDuration(text); return err }, "write it as 500ms, 30s, 5m or 1h30m"}
	sizeForm     = form{checkSize, "write it as 512m, 2g or in bytes"}
	integerForm  = form{checkInteger, "write a whole number"}
	numberForm   = form{checkNumber, "write a number, such as 0.5"}
	booleanForm  = form{checkBoolean, "write true or false"}
	addressForm  = form{checkAddress, "write an IP address, such as 127.0.0.1"}
	hostsForm    = form{checkHost, "write it as NAME=ADDRESS"}
	deviceForm   = form{checkDevice, "write it as /dev/NAME, or /dev/NAME:/dev/NAME:rwm"}
	contextForm  = form{checkContext, "write it as NAME=FOLDER"}
	portsForm    = form{checkPorts, `write it as "8080:80", "127.0.0.1:8080:80" or "80", with /udp for UDP`}
	mountForm    = form{checkMount, "write it as NAME:/path, ./folder:/path or ./folder:/path:ro"}
)

// forms are the forms by key.
var forms = map[string]form{
	"services.*.stop_grace_period":                        durationForm,
	"services.*.healthcheck.interval":                     durationForm,
	"services.*.healthcheck.timeout":                      durationForm,
	"services.*.healthcheck.start_period":                 durationForm,
	"services.*.healthcheck.start_interval":               durationForm,
	"services.*.deploy.update_config.delay":               durationForm,
	"services.*.deploy.update_config.monitor":             durationForm,
	"services.*.deploy.rollback_config.delay":             durationForm,
	"services.*.deploy.rollback_config.monitor":           durationForm,
	"services.*.deploy.restart_policy.delay":              durationForm,
	"services.*.deploy.restart_policy.window":             durationForm,
	"services.*.mem_limit":                                sizeForm,
	"services.*.mem_reservation":                          sizeForm,
	"services.*.memswap_limit":                            sizeForm,
	"services.*.mem_swappiness":                           sizeForm,
	"services.*.shm_size":                                 sizeForm,
	"services.*.volumes.tmpfs.size":                       sizeForm,
	"services.*.build.shm_size":                           sizeForm,
	"services.*.deploy.resources.limits.memory":           sizeForm,
	"services.*.deploy.resources.reservations.memory":     sizeForm,
	"services.*.deploy.resources.limits.cpus":             numberForm,
	"services.*.deploy.resources.reservations.cpus":       numberForm,
	"services.*.deploy.resources.limits.pids":             integerForm,
	"services.*.cpus":                                     numberForm,
	"services.*.cpu_percent":                              numberForm,
	"services.*.cpu_count":                                integerForm,
	"services.*.cpu_period":                               integerForm,
	"services.*.cpu_quota":                                integerForm,
	"services.*.cpu_shares":                               integerForm,
	"services.*.cpu_rt_period":                            integerForm,
	"services.*.cpu_rt_runtime":                           integerForm,
	"services.*.pids_limit":                               integerForm,
	"services.*.oom_score_adj":                            integerForm,
	"services.*.scale":                                    integerForm,
	"services.*.deploy.replicas":                          integerForm,
	"services.*.deploy.update_config.parallelism":         integerForm,
	"services.*.deploy.update_config.max_failure_ratio":   numberForm,
	"services.*.deploy.rollback_config.parallelism":       integerForm,
	"services.*.deploy.rollback_config.max_failure_ratio": numberForm,
	"services.*.deploy.restart_policy.max_attempts":       integerForm,
	"services.*.deploy.placement.max_replicas_per_node":   integerForm,
	"services.*.healthcheck.retries":                      integerForm,
	"services.*.healthcheck.disable":                      booleanForm,
	"services.*.blkio_config.weight":                      integerForm,
	"services.*.ports.target":                             integerForm,
	"services.*.init":                                     booleanForm,
	"services.*.privileged":                               booleanForm,
	"services.*.read_only":                                booleanForm,
	"services.*.tty":                                      booleanForm,
	"services.*.stdin_open":                               booleanForm,
	"services.*.oom_kill_disable":                         booleanForm,
	"services.*.use_api_socket":                           booleanForm,
	"services.*.build.no_cache":                           booleanForm,
	"services.*.build.pull":                               booleanForm,
	"services.*.build.privileged":                         booleanForm,
	"services.*.volumes.read_only":                        booleanForm,
	"services.*.volumes.volume.nocopy":                    booleanForm,
	"services.*.volumes.bind.create_host_path":            booleanForm,
	"services.*.depends_on.*.restart":                     booleanForm,
	"services.*.networks.*.use_service_name_alias":        booleanForm,
	"services.*.env_file.required":                        booleanForm,
	"networks.*.external":                                 booleanForm,
	"networks.*.internal":                                 booleanForm,
	"networks.*.attachable":                               booleanForm,
	"networks.*.enable_ipv4":                              booleanForm,
	"networks.*.enable_ipv6":                              booleanForm,
	"volumes.*.external":                                  booleanForm,
	"secrets.*.external":                                  booleanForm,
	"configs.*.external":                                  booleanForm,
	"services.*.ports.host_ip":                            addressForm,
	"services.*.extra_hosts":                              hostsForm,
	"services.*.build.extra_hosts":                        hostsForm,
	"services.*.devices":                                  deviceForm,
	"services.*.build.additional_contexts":                contextForm,
	"services.*.ports":                                    portsForm,
	"services.*.volumes":                                  mountForm,
	"services.*.ulimits.*":                                integerForm,
	"services.*.ulimits.*.soft":                           integerForm,
	"services.*.ulimits.*.hard":                           integerForm,
	"services.*.build.ulimits.*":                          integerForm,
	"services.*.build.ulimits.*.soft":                     integerForm,
	"services.*.build.ulimits.*.hard":                     integerForm,
}

// checkForms reports values that are strings by the schema and yet not what they must be.
func (l *load) checkForms(n *node, k *keyNode, path, key string) {
	switch n.kind {
	case scalarNode:
		f, ok := forms[key]
		if !ok || l.failed(path) {
			return
		}
		if err := f.check(n.text()); err != nil {
			l.fail(n.pos, path, maru.Invalid, fmt.Sprintf("%q is not allowed: %v", n.text(), err), f.hint)
		}
	case listNode:
		for i, item := range n.items {
			l.checkForms(item, k, joinIndex(path, i), key)
		}
	case mappingNode:
		for _, name := range n.names {
			if child, called := k.child(name); child != nil {
				l.checkForms(n.fields[name], child, joinKey(path, name), joinKey(key, called))
			}
		}
	}
}

func checkSize(text string) error {
	var size types.UnitBytes
	err := size.DecodeMapstructure(text)
	if err == nil && size < -1 {
		return errors.New("it is negative")
	}
	return err
}

func checkInteger(text string) error {
	if _, err := strconv.ParseInt(text, 10, 64); err != nil {
		return errors.New("it is not a whole number")
	}
	return nil
}

func checkNumber(text string) error {
	value, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || value != value:
		return errors.New("it is not a number")
	case value < 0 || value > 1e6:
		return errors.New("it is out of range")
	}
	return nil
}

func checkBoolean(text string) error {
	switch strings.ToLower(text) {
	case "true", "false", "yes", "no", "on", "off", "y", "n":
		return nil
	}
	return errors.New("it is neither true nor false")
}

// maxPorts bounds the ports of one range.
const maxPorts = 1024

func checkPorts(text string) error {
	ports, _, _ := strings.Cut(text, "/")
	for part := range strings.SplitSeq(ports, ":") {
		if from, to, ok := strings.Cut(part, "-"); ok {
			a, _ := strconv.Atoi(from)
			b, _ := strconv.Atoi(to)
			if b-a >= maxPorts {
				return fmt.Errorf("it has more than %d ports", maxPorts)
			}
		}
	}
	_, err := types.ParsePortConfig(text)
	return err
}

func checkMount(text string) error {
	mount, err := format.ParseVolume(text)
	if err == nil && !strings.HasPrefix(mount.Target, "/") {
		return fmt.Errorf("its target %q is not an absolute path", mount.Target)
	}
	return err
}

func checkAddress(text string) error {
	if net.ParseIP(text) == nil {
		return errors.New("it is not an IP address")
	}
	return nil
}

func checkHost(text string) error {
	name, address, ok := strings.Cut(text, "=")
	if !ok {
		name, address, ok = strings.Cut(text, ":")
	}
	if !ok || name == "" || address == "" {
		return errors.New("it lacks the address")
	}
	return nil
}

func checkDevice(text string) error {
	if parts := strings.Split(text, ":"); len(parts) > 3 || slices.Contains(parts, "") {
		return errors.New("it is not a device")
	}
	return nil
}

func checkContext(text string) error {
	if !strings.Contains(text, "=") {
		return errors.New("it lacks the context")
	}
	return nil
}

// checkSources reports configs, secrets, volumes and networks that say two things of where they come from.
func (l *load) checkSources() {
	for _, section := range []string{"configs", "secrets", "volumes", "networks"} {
		all := l.src.get(section)
		if all == nil || all.kind != mappingNode {
			continue
		}
		for _, name := range all.names {
			l.checkSource(all.fields[name], section+"."+name, section)
		}
	}
}

func (l *load) checkSource(n *node, path, section string) {
	if n.kind != mappingNode {
		return
	}
	var given []string
	for _, key := range []string{"file", "environment", "content"} {
		if field := n.fields[key]; field != nil && (section == "configs" || key != "content") {
			given = append(given, key)
		}
	}
	external := n.get("external")
	outside := external != nil && (external.kind == mappingNode || !external.isEmpty())
	if len(given) > 1 {
		l.fail(n.fields[given[1]].key, path, maru.Invalid, strings.Join(given, " and ")+" exclude each other", "leave one of them out")
	}
	if outside {
		for _, key := range n.names {
			if key != "external" && key != "name" && !strings.HasPrefix(key, "x-") {
				l.fail(n.fields[key].key, joinKey(path, key), maru.Invalid, "is said of something external, which is as it is", "leave it out, or leave external out")
			}
		}
		if name := n.get("name"); name != nil && external.get("name") != nil && external.get("name").text() != name.text() {
			l.fail(name.key, path+".name", maru.Invalid, "name and external.name say different things", "leave external.name out")
		}
		return
	}
	if (section == "configs" || section == "secrets") && len(given) == 0 && n.fields["driver"] == nil {
		l.fail(n.key, path, maru.Invalid, "says nothing of its content",
			map[string]string{"configs": "write content, file or environment, or external: true", "secrets": "write file or environment, or external: true"}[section])
	}
}
