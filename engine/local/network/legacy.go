package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// legacyTool is a program for the tables of the old xtables interface, which netlink does not reach.
type legacyTool struct{ tables, program string }

var legacyTools = []legacyTool{
	{"/proc/self/net/ip_tables_names", "iptables-legacy"},
	{"/proc/self/net/ip6_tables_names", "ip6tables-legacy"},
}

// legacyTables gives the tools of which a filter table is in use.
func legacyTables() []legacyTool {
	var out []legacyTool
	for _, t := range legacyTools {
		names, err := os.ReadFile(t.tables)
		if err == nil && slices.Contains(strings.Fields(string(names)), "filter") {
			out = append(out, t)
		}
	}
	return out
}

func (t legacyTool) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, t.program, append([]string{"-w", "5"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", t.program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

// legacyRules are the rules that accept the instances' interfaces, by chain.
func (n *Network) legacyRules() map[string][]string {
	in, out := "-i "+n.prefix()+"+ -j ACCEPT", "-o "+n.prefix()+"+ -j ACCEPT"
	return map[string][]string{"FORWARD": {in, out}, "INPUT": {in}, "OUTPUT": {out}}
}

// befriendLegacy does for xtables what befriend does for nftables.
func (n *Network) befriendLegacy(ctx context.Context) error {
	var errs []error
	for _, t := range legacyTables() {
		for chain, rules := range n.legacyRules() {
			errs = append(errs, t.befriend(ctx, chain, rules))
		}
	}
	return errors.Join(errs...)
}

func (t legacyTool) befriend(ctx context.Context, chain string, rules []string) error {
	listed, err := t.run(ctx, "-S", chain)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(listed), "\n")
	if len(lines) == 1 && strings.HasSuffix(lines[0], " ACCEPT") {
		return nil
	}
	for _, rule := range rules {
		line := "-A " + chain + " " + rule
		at := slices.Index(lines, line)
		if at > 0 && !slices.ContainsFunc(lines[1:at], func(l string) bool { return !strings.HasSuffix(l, " -j ACCEPT") }) {
			continue
		}
		if at > 0 {
			if _, err := t.run(ctx, append([]string{"-D", chain}, strings.Fields(rule)...)...); err != nil {
				return err
			}
		}
		if _, err := t.run(ctx, append([]string{"-I", chain, "1"}, strings.Fields(rule)...)...); err != nil {
			return err
		}
	}
	return nil
}

// partLegacy takes our rules out of xtables again.
func (n *Network) partLegacy(ctx context.Context) error {
	var errs []error
	for _, t := range legacyTables() {
		for chain, rules := range n.legacyRules() {
			listed, err := t.run(ctx, "-S", chain)
			errs = append(errs, err)
			for _, rule := range rules {
				if err == nil && strings.Contains(listed, "-A "+chain+" "+rule+"\n") {
					_, err := t.run(ctx, append([]string{"-D", chain}, strings.Fields(rule)...)...)
					errs = append(errs, err)
				}
			}
		}
	}
	return errors.Join(errs...)
}
