package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// isAcceptRule tells whether the rule is one of ours.
func (n *Network) isAcceptRule(r *nftables.Rule, d direction) bool {
	if len(r.Exprs) != 4 {
		return false
	}
	meta, ok1 := r.Exprs[0].(*expr.Meta)
	cmp, ok2 := r.Exprs[1].(*expr.Cmp)
	_, ok3 := r.Exprs[2].(*expr.Counter)
	verdict, ok4 := r.Exprs[3].(*expr.Verdict)
	key := expr.MetaKeyIIFNAME
	if d == outgoing {
		key = expr.MetaKeyOIFNAME
	}
	return ok1 && ok2 && ok3 && ok4 && meta.Key == key && cmp.Op == eq &&
		bytes.Equal(cmp.Data, []byte(n.prefix())) && verdict.Kind == expr.VerdictAccept
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
	for _, c := range chains {
		if err := n.befriendChain(c); err != nil && !errors.Is(err, unix.ENOENT) {
			n.log.Warn("another firewall may drop the instances' traffic", "table", c.Table.Name, "chain", c.Name, "error", err, "hint", hintOwned(n.cfg.Name, err))
		}
	}
	if err := n.befriendLegacy(ctx); err != nil {
		n.log.Warn("iptables may drop the instances' traffic", "error", err)
	}
	return nil
}

// hintOwned says what to do about a table that only its owner can change.
func hintOwned(name string, err error) string {
	if errors.Is(err, unix.EPERM) {
		return "let that firewall accept what comes from and goes to interfaces " + name + "-*; with firewalld: firewall-cmd --permanent --zone=trusted --add-interface=" + name + "-+ && firewall-cmd --reload"
	}
	return ""
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
	dropping := c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
	inPlace := map[direction]bool{}
	var stale []*nftables.Rule
	for _, r := range rules {
		ours := false
		for _, d := range hooks[*c.Hooknum] {
			if !n.isAcceptRule(r, d) {
				continue
			}
			ours = true
			if dropping && len(stale) > 0 || inPlace[d] || dropsBefore(rules, r) {
				stale = append(stale, r)
			} else {
				inPlace[d] = true
			}
		}
		dropping = dropping || !ours && !harmless(r)
	}
	if !dropping && len(stale) == 0 {
		return nil
	}
	for _, r := range stale {
		if err := conn.DelRule(r); err != nil {
			return err
		}
	}
	changed := len(stale) > 0
	for _, d := range hooks[*c.Hooknum] {
		if dropping && !inPlace[d] {
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

// dropsBefore tells whether a rule before r could drop.
func dropsBefore(rules []*nftables.Rule, r *nftables.Rule) bool {
	for _, before := range rules {
		if before == r {
			return false
		}
		if !harmless(before) {
			return true
		}
	}
	return false
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
	return errors.Join(append(errs, n.partLegacy(ctx))...)
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
		for _, d := range hooks[*c.Hooknum] {
			if n.isAcceptRule(r, d) {
				if err := conn.DelRule(r); err != nil {
					return err
				}
			}
		}
	}
	return conn.Flush()
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
	if err := n.applySettings(saved); err != nil {
		return err
	}
	return n.befriend(ctx)
}
