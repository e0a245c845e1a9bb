package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/layout"
	"github.com/marucloud/maru/traffic/accesslog"
)

// platform is what the processes of one installation have in common. Each flag may also be given as
// an environment variable, MARU_ and its name in capitals.
type platform struct {
	layout    layout.Layout
	http      string
	https     string
	http3     string
	api       string
	ssh       string
	proxyUser string
	instances string
	virtual   string
	mirrors   []string
	trusted   []string
	proxied   []string
	jobImages []string
	keepTags  int
	acme      acmeFlags
	logFormat string
	accessLog string
	verbose   bool
}

func (p *platform) register(flags *pflag.FlagSet) {
	flags.StringVar(&p.layout.Name, "name", env("NAME", "maru"), "name of this installation, at most 8 of a-z and 0-9: begins the names of its interfaces, rules and cgroups")
	flags.StringVar(&p.layout.Data, "data", env("DATA", ""), "folder for all that survives a reboot (default /var/lib/NAME)")
	flags.StringVar(&p.layout.Run, "run", env("RUN", ""), "folder for sockets, at most 36 characters (default /run/NAME)")
	flags.StringVar(&p.http, "http", env("HTTP", ":8080"), "address of the gateway for HTTP")
	flags.StringVar(&p.https, "https", env("HTTPS", ":8443"), "address of the gateway for HTTPS")
	flags.StringVar(&p.http3, "http3", env("HTTP3", ""), "address of the gateway for HTTP/3, by UDP (default that of --https); off: none")
	flags.StringVar(&p.api, "api", env("API", "127.0.0.1:6278"), "address of the API over TLS")
	flags.StringVar(&p.ssh, "ssh", env("SSH", ""), "address of Git by SSH, such as :2222 (default: none)")
	flags.StringVar(&p.proxyUser, "proxy-user", env("PROXY_USER", ""), "user that the proxy runs as (default maru-proxy where there is one, else nobody)")
	flags.StringVar(&p.instances, "instance-range", env("INSTANCE_RANGE", ""), "addresses of instances: an IPv4 and an IPv6 prefix, with a comma between")
	flags.StringVar(&p.virtual, "virtual-range", env("VIRTUAL_RANGE", ""), "virtual addresses of services: an IPv4 and an IPv6 prefix, with a comma between")
	flags.StringSliceVar(&p.mirrors, "mirror", envList("MIRROR"), "REGISTRY=URL: where to look first for a registry's images; may be repeated")
	flags.StringSliceVar(&p.trusted, "trusted-proxy", envList("TRUSTED_PROXY"), "address or range of a proxy before the gateway whose X-Forwarded-* and Forwarded are believed; may be repeated")
	flags.StringSliceVar(&p.proxied, "proxy-protocol", envList("PROXY_PROTOCOL"), "address or range of a proxy before the gateway whose connections begin with a PROXY header, of version 1 or 2; may be repeated")
	flags.StringSliceVar(&p.jobImages, "job-image", envList("JOB_IMAGE"), "LABEL=IMAGE: the image of jobs with the label in runs-on; may be repeated")
	flags.IntVar(&p.keepTags, "registry-keep", envInt("REGISTRY_KEEP"), "tagged images that stay in each repository of the registry, the last that were pushed; 0: all")
	p.acme.register(flags)
	flags.StringVar(&p.logFormat, "log-format", env("LOG_FORMAT", "text"), "text or json")
	flags.StringVar(&p.accessLog, "access-log", env("ACCESS_LOG", "json"), "format of the proxy's access log: json, or common (as Apache's combined one)")
	flags.BoolVarP(&p.verbose, "verbose", "v", env("VERBOSE", "") != "", "log more")
}

func env(name, otherwise string) string {
	if value, ok := os.LookupEnv("MARU_" + name); ok {
		return value
	}
	return otherwise
}

func envList(name string) []string {
	return strings.FieldsFunc(env(name, ""), func(r rune) bool { return r == ',' || r == ' ' })
}

// envInt gives a number; what is none is as if it were not there.
func envInt(name string) int {
	n, err := strconv.Atoi(env(name, "0"))
	if err != nil {
		return 0
	}
	return n
}

// arguments gives the flags again, for a child process.
func (p *platform) arguments() []string {
	args := []string{"--name", p.layout.Name, "--data", p.layout.Data, "--run", p.layout.Run,
		"--http", p.http, "--https", p.https, "--http3", p.http3, "--api", p.api, "--ssh", p.ssh, "--proxy-user", p.proxyUser,
		"--instance-range", p.instances, "--virtual-range", p.virtual, "--log-format", p.logFormat, "--access-log", p.accessLog,
		"--registry-keep", strconv.Itoa(p.keepTags)}
	for _, m := range p.mirrors {
		args = append(args, "--mirror", m)
	}
	for _, t := range p.trusted {
		args = append(args, "--trusted-proxy", t)
	}
	for _, t := range p.proxied {
		args = append(args, "--proxy-protocol", t)
	}
	for _, j := range p.jobImages {
		args = append(args, "--job-image", j)
	}
	args = append(args, p.acme.arguments()...)
	if p.verbose {
		args = append(args, "--verbose")
	}
	return args
}

// complete fills in the defaults and makes paths absolute.
func (p *platform) complete() error {
	p.layout = p.layout.Default()
	if p.http3 == "" {
		p.http3 = p.https
	}
	for _, path := range []*string{&p.layout.Data, &p.layout.Run} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("find folder %s: %w", *path, err)
		}
		*path = absolute
	}
	if err := p.acme.complete(); err != nil {
		return fmt.Errorf("find a file: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil // the proxy
	}
	for _, dir := range []string{p.layout.Data, p.layout.Run} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	return nil
}

func (p *platform) logger(process string) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if p.verbose {
		options.Level = slog.LevelDebug
	}
	if p.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options)).With("process", process)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options)).With("process", process)
}

// prefixes gives the networks that a flag names.
func prefixes(flag string, texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if a, single := netip.ParseAddr(text); single == nil {
			prefix, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "--%s: %w", flag, err), "such as 192.0.2.7 or 10.0.0.0/8")
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}

func (p *platform) ranges() (maru.Ranges, error) {
	r := maru.DefaultRanges()
	for _, part := range []struct {
		flag, text string
		v4, v6     *netip.Prefix
	}{{"instance-range", p.instances, &r.InstancesV4, &r.InstancesV6}, {"virtual-range", p.virtual, &r.VirtualV4, &r.VirtualV6}} {
		if part.text == "" {
			continue
		}
		for text := range strings.SplitSeq(part.text, ",") {
			prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
			if err != nil {
				return r, maru.WithHint(maru.Errorf(maru.Invalid, "--%s: %w", part.flag, err), "such as 10.210.0.0/16,fd00:1::/64")
			}
			if prefix.Addr().Is4() {
				*part.v4 = prefix.Masked()
			} else {
				*part.v6 = prefix.Masked()
			}
		}
	}
	return r, nil
}

// mirrorMap gives the mirrors by registry.
func (p *platform) mirrorMap() (map[string][]string, error) {
	all := map[string][]string{}
	for _, m := range p.mirrors {
		registry, url, ok := strings.Cut(m, "=")
		if !ok || registry == "" || url == "" {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "--mirror %q is not REGISTRY=URL", m), "such as docker.io=https://mirror.example.com")
		}
		all[registry] = append(all[registry], url)
	}
	return all, nil
}

// accessLogFormat gives the format that --access-log names.
func (p *platform) accessLogFormat() (accesslog.Format, error) {
	switch p.accessLog {
	case "json":
		return accesslog.AppendJSON, nil
	case "common":
		return accesslog.AppendCommon, nil
	}
	return nil, maru.WithHint(maru.Errorf(maru.Invalid, "--access-log %q is no format", p.accessLog), "give json or common")
}

// proxyIDs gives the user and group that the proxy runs as.
func (p *platform) proxyIDs() (uid, gid int, err error) {
	names := []string{p.proxyUser}
	if p.proxyUser == "" {
		names = []string{"maru-proxy", "nobody"}
	}
	for _, name := range names {
		found, lookupErr := user.Lookup(name)
		if lookupErr != nil {
			err = maru.WithHint(maru.Errorf(maru.Invalid, "--proxy-user: %w", lookupErr), "give the name of a user without rights")
			continue
		}
		if uid, err = strconv.Atoi(found.Uid); err == nil {
			gid, err = strconv.Atoi(found.Gid)
		}
		return uid, gid, err
	}
	return 0, 0, err
}

func (p *platform) requireRoot() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return maru.WithHint(maru.Errorf(maru.Denied, "running containers needs root"), "try again with sudo")
}

// save keeps the settings for commands that come later, such as shutdown and clean.
func (p *platform) save() error {
	data, err := json.Marshal(p.arguments())
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.layout.Run, "arguments.json"), data, 0o644)
}

// command makes a command of the platform from its run function.
func command(use, short, long string, run func(*cobra.Command, *platform) error, also ...func(*pflag.FlagSet, *platform)) *cobra.Command {
	p := &platform{}
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.NoArgs, GroupID: "platform", RunE: func(c *cobra.Command, _ []string) error {
		if err := p.complete(); err != nil {
			return err
		}
		return run(c, p)
	}}
	p.register(c.Flags())
	for _, f := range also {
		f(c.Flags(), p)
	}
	return c
}
