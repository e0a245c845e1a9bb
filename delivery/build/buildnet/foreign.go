package buildnet

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A packet must be accepted by every table that looks at it. Docker, ufw and firewalld drop what is
// forwarded and unknown to them, so rules that accept steps' links are put before theirs; what really
// passes is decided in our own table. The rules have the form that iptables writes, so that it can go
// on listing its tables.

// passOthers puts the rules where they are missing.
func passOthers(name string) error {
	c, chains, err := foreignChains(name)
	if err != nil {
		return err
	}
	for _, chain := range chains {
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			return fmt.Errorf("read rules of %s: %w", chain.Table.Name, err)
		}
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			if find(rules, key, linkPrefix(name)) == nil {
				c.InsertRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: []expr.Any{
					&expr.Meta{Key: key, Register: 1},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(linkPrefix(name))},
					&expr.Counter{},
					&expr.Verdict{Kind: expr.VerdictAccept},
				}})
			}
		}
	}
	return c.Flush()
}

// leaveOthers takes the rules away.
func leaveOthers(name string) error {
	c, chains, err := foreignChains(name)
	if err != nil {
		return err
	}
	var failed []error
	for _, chain := range chains {
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			failed = append(failed, fmt.Errorf("read rules of %s: %w", chain.Table.Name, err))
			continue
		}
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			if r := find(rules, key, linkPrefix(name)); r != nil {
				failed = append(failed, c.DelRule(r))
			}
		}
	}
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// foreignChains are those of other tables that may drop what is forwarded over IPv4.
func foreignChains(name string) (*nftables.Conn, []*nftables.Chain, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, nil, err
	}
	all, err := c.ListChains()
	if err != nil {
		return nil, nil, fmt.Errorf("list chains: %w", err)
	}
	var found []*nftables.Chain
	for _, chain := range all {
		f := chain.Table.Family
		if chain.Hooknum != nil && *chain.Hooknum == *nftables.ChainHookForward && chain.Type == nftables.ChainTypeFilter &&
			(f == nftables.TableFamilyIPv4 || f == nftables.TableFamilyINet) && chain.Table.Name != tableName(name) {
			found = append(found, chain)
		}
	}
	return c, found, nil
}

func find(rules []*nftables.Rule, key expr.MetaKey, prefix string) *nftables.Rule {
	for _, r := range rules {
		if len(r.Exprs) != 4 {
			continue
		}
		meta, ok1 := r.Exprs[0].(*expr.Meta)
		cmp, ok2 := r.Exprs[1].(*expr.Cmp)
		verdict, ok3 := r.Exprs[3].(*expr.Verdict)
		if ok1 && ok2 && ok3 && meta.Key == key && bytes.Equal(cmp.Data, []byte(prefix)) && verdict.Kind == expr.VerdictAccept {
			return r
		}
	}
	return nil
}
