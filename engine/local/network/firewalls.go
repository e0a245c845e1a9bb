package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A packet must be accepted by every table that looks at it. Docker, ufw and firewalld end their
// chains by dropping what they don't know, so rules that accept the instances' interfaces are put
// before. Ours decides what really passes: it refuses by itself.

// recheckInterval is how often other programs' rules are looked at without a sign of a change.
const recheckInterval = 30 * time.Second

// direction is a side of a packet's way past a hook.
type direction int

const (
	incoming direction = iota
	outgoing
)

// hooks are where other tables may drop what is ours, and the directions to accept there.
var hooks = map[nftables.ChainHook][]direction{
	*nftables.ChainHookForward: {incoming, outgoing},
	*nftables.ChainHookInput:   {incoming},
	*nftables.ChainHookOutput:  {outgoing},
}

// acceptRule accepts what comes from or goes to the instances' interfaces. It has the form that
// iptables writes, so that iptables can go on listing its tables.
func (n *Network) acceptRule(d direction) exprs {
	e := match()
	if d == incoming {
		e = e.iif(eq, n.prefix())
	} else {
		e = e.oif(eq, n.prefix())
	}
	return e.and(&expr.Counter{}).accept()
}

// ownRule tells whether the rule is one of ours, and for which of the directions.
func (n *Network) ownRule(r *nftables.Rule, directions []direction) (direction, bool) {
	if len(r.Exprs) != 4 {
		return 0, false
	}
	meta, ok1 := r.Exprs[0].(*expr.Meta)
	cmp, ok2 := r.Exprs[1].(*expr.Cmp)
	_, ok3 := r.Exprs[2].(*expr.Counter)
	verdict, ok4 := r.Exprs[3].(*expr.Verdict)
	if !ok1 || !ok2 || !ok3 || !ok4 || cmp.Op != eq || !bytes.Equal(cmp.Data, []byte(n.prefix())) || verdict.Kind != expr.VerdictAccept {
		return 0, false
	}
	d := map[expr.MetaKey]direction{expr.MetaKeyIIFNAME: incoming, expr.MetaKeyOIFNAME: outgoing}
	of, ok := d[meta.Key]
	return of, ok && slices.Contains(directions, of)
}

// harmless tells whether a rule can't drop what comes after it.
func harmless(r *nftables.Rule) bool {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Meta, *expr.Cmp, *expr.Payload, *expr.Ct, *expr.Counter, *expr.Bitwise, *expr.Match, *expr.Range:
		case *expr.Verdict:
			if e.Kind != expr.VerdictAccept {
				return false
			}
		default:
			return false
		}
	}
	return len(r.Exprs) > 0
}

// foreignChains are the chains of other tables that may drop what is ours.
func foreignChains(conn *nftables.Conn, own string) ([]*nftables.Chain, error) {
	all, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var out []*nftables.Chain
	for _, c := range all {
		if c.Hooknum == nil || c.Type != nftables.ChainTypeFilter || c.Table.Family == tableFamily && c.Table.Name == own {
			continue
		}
		switch c.Table.Family {
		case nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6:
		default:
			continue
		}
		if hooks[*c.Hooknum] != nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// othersForward tells whether another program has rules for forwarded packets.
func othersForward(own string) (bool, error) {
	conn, err := dial()
	if err != nil {
		return false, err
	}
	chains, err := foreignChains(conn, own)
	if err != nil {
		return false, err
	}
	for _, c := range chains {
		if *c.Hooknum == *nftables.ChainHookForward {
			return true, nil
		}
	}
	return len(legacyTables()) > 0, nil
}

// befriend makes sure that other firewalls let the instances' traffic pass to our own rules. What it
// can't change it tells of in the log: it is no reason not to start.
func (n *Network) befriend(ctx context.Context) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	chains, err := foreignChains(conn, n.cfg.Name)
	if err != nil {
		return err
	}
	ask := false
	for _, c := range chains {
		err := n.befriendChain(c)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT): // it went meanwhile
		case errors.Is(err, unix.EPERM) && c.Table.Name == firewalldTable:
			ask = true
		default:
			n.warnOnce("another firewall may drop the instances' traffic", "table", c.Table.Name, "chain", c.Name, "error", err,
				"hint", "let it accept what comes from and goes to interfaces "+n.prefix()+"*")
		}
	}
	if ask {
		if err := n.befriendFirewalld(ctx); err != nil {
			n.warnOnce("firewalld may drop the instances' traffic", "error", err,
				"hint", "firewall-cmd --permanent --zone=trusted --add-source="+n.cfg.Ranges.InstancesV4.String()+", and --reload")
		}
	}
	if err := n.befriendLegacy(ctx); err != nil {
		n.warnOnce("iptables may drop the instances' traffic", "error", err)
	}
	return nil
}

// warnOnce tells of what stays as it is only the first time.
func (n *Network) warnOnce(message string, args ...any) {
	if key := fmt.Sprint(message, args); !n.warned[key] {
		n.warned[key] = true
		n.log.Warn(message, args...)
	}
}

// befriendChain puts our rules before the first that could drop.
func (n *Network) befriendChain(c *nftables.Chain) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	rules, err := conn.GetRules(c.Table, c)
	if err != nil {
		return err
	}
	drops := false // a rule up to here
	inPlace := map[direction]bool{}
	var stale []*nftables.Rule
	for _, r := range rules {
		d, ours := n.ownRule(r, hooks[*c.Hooknum])
		switch {
		case !ours:
			drops = drops || !harmless(r)
		case drops || inPlace[d]:
			stale = append(stale, r)
		default:
			inPlace[d] = true
		}
	}
	drops = drops || c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
	for _, r := range stale {
		if err := conn.DelRule(r); err != nil {
			return err
		}
	}
	changed := len(stale) > 0
	for _, d := range hooks[*c.Hooknum] {
		if drops && !inPlace[d] {
			conn.InsertRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: n.acceptRule(d)})
			changed = true
		}
	}
	if !changed {
		return nil
	}
	n.log.Info("another firewall now lets the instances' traffic pass", "table", c.Table.Name, "chain", c.Name)
	return conn.Flush()
}

// part takes our rules out of other tables again.
func (n *Network) part(ctx context.Context) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	chains, err := foreignChains(conn, n.cfg.Name)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range chains {
		errs = append(errs, n.partChain(c))
	}
	return errors.Join(append(errs, n.partFirewalld(ctx), n.partLegacy(ctx))...)
}

func (n *Network) partChain(c *nftables.Chain) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	rules, err := conn.GetRules(c.Table, c)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if _, ours := n.ownRule(r, hooks[*c.Hooknum]); ours {
			if err := conn.DelRule(r); err != nil {
				return err
			}
		}
	}
	if err := conn.Flush(); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// recheck looks whether what Setup did is still in force. Programs that load a whole rule set, as
// nftables.service does, flush ours with it.
func (n *Network) recheck(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.host == nil {
		return
	}
	if err := n.repair(ctx); err != nil {
		n.log.Warn("network rules could not be repaired", "error", err)
	}
}

func (n *Network) repair(ctx context.Context) error {
	chains, err := n.chains()
	if err != nil {
		return err
	}
	if !chains[n.marker()] {
		n.log.Warn("another program removed the nftables table; writing it anew", "table", n.cfg.Name)
		if err := n.rebuild(); err != nil {
			return err
		}
	}
	saved, _, err := n.readMachine()
	if err != nil {
		return err
	}
	if err := errors.Join(n.applySettings(saved), n.repairRoutes()); err != nil {
		return err
	}
	return n.befriend(ctx)
}
