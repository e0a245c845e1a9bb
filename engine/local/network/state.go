package network

import (
	"maps"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// tableState is what the table holds for services: their parts, and what those need together.
type tableState struct {
	parts    map[maru.ServiceID]*part
	elements map[elementKey]owned
	policies map[policy]int // how many services use it
	made     made
}

// owned is an element's value and whose it is: nobody's, when an earlier process left it. When two
// services claim the same, the later has it.
type owned struct {
	value string
	owner maru.ServiceID
}

// made are the chains and sets that are there besides the base. They are made before anything leads
// to them and outlast it: the kernel looks up elements as they are now, but for a packet on its way
// runs chains as they were when it came.
type made struct {
	chains, sets map[string]bool
}

func newMade() made { return made{map[string]bool{}, map[string]bool{}} }

func (m made) add(more made) {
	maps.Copy(m.chains, more.chains)
	maps.Copy(m.sets, more.sets)
}

func newTableState() *tableState {
	return &tableState{
		parts: map[maru.ServiceID]*part{}, elements: map[elementKey]owned{}, policies: map[policy]int{}, made: newMade(),
	}
}

// change is a step of a tableState: what was there before, of all that it touched.
type change struct {
	state    *tableState
	parts    map[maru.ServiceID]*part
	elements map[elementKey]*owned
	policies map[policy]int
}

func (st *tableState) begin() *change {
	return &change{state: st, parts: map[maru.ServiceID]*part{}, elements: map[elementKey]*owned{}, policies: map[policy]int{}}
}

// set replaces a service's part; nil removes it.
func (c *change) set(id maru.ServiceID, next *part) {
	st := c.state
	before := st.parts[id]
	if _, again := c.parts[id]; !again {
		c.parts[id] = before
	}
	keep := map[elementKey]bool{}
	if next != nil {
		st.parts[id] = next
		c.count(next.policy, 1)
		c.count(next.reach, 1)
		for _, e := range next.elements {
			keep[e.elementKey] = true
			c.put(e.elementKey, owned{e.value, id})
		}
	} else {
		delete(st.parts, id)
	}
	if before == nil {
		return
	}
	c.count(before.policy, -1)
	c.count(before.reach, -1)
	for _, e := range before.elements {
		if now, ok := st.elements[e.elementKey]; ok && !keep[e.elementKey] && now.owner == id {
			c.drop(e.elementKey)
		}
	}
}

// disown drops what an earlier process left and no service claimed.
func (c *change) disown() {
	for k, o := range c.state.elements {
		if o.owner == (maru.ServiceID{}) {
			c.drop(k)
		}
	}
}

func (c *change) put(k elementKey, o owned) {
	if now, ok := c.state.elements[k]; !ok || now != o {
		c.touch(k)
		c.state.elements[k] = o
	}
}

func (c *change) drop(k elementKey) {
	c.touch(k)
	delete(c.state.elements, k)
}

func (c *change) touch(k elementKey) {
	if _, again := c.elements[k]; again {
		return
	}
	c.elements[k] = nil
	if now, ok := c.state.elements[k]; ok {
		c.elements[k] = &now
	}
}

func (c *change) count(p policy, by int) {
	now := c.state.policies
	if _, again := c.policies[p]; !again {
		c.policies[p] = now[p]
	}
	if now[p] += by; now[p] == 0 {
		delete(now, p)
	}
}

// undo brings back what was before.
func (c *change) undo() {
	st := c.state
	for id, p := range c.parts {
		if p == nil {
			delete(st.parts, id)
		} else {
			st.parts[id] = p
		}
	}
	for k, o := range c.elements {
		if o == nil {
			delete(st.elements, k)
		} else {
			st.elements[k] = *o
		}
	}
	for p, n := range c.policies {
		if n == 0 {
			delete(st.policies, p)
		} else {
			st.policies[p] = n
		}
	}
}

// difference gives the elements to remove and to add.
func (c *change) difference() (remove, add []element) {
	for k, before := range c.elements {
		now, ok := c.state.elements[k]
		if before != nil && ok && before.value == now.value {
			continue
		}
		if before != nil {
			remove = append(remove, element{k, before.value})
		}
		if ok {
			add = append(add, element{k, now.value})
		}
	}
	return remove, add
}

// prepare writes the chains and sets that the parts need and that are not there, and gives them.
// Members gives the elements of a group.
func (st *tableState) prepare(b *batch, parts []*part, members func(group) []element) made {
	w := making{batch: b, there: st.made, new: newMade(), members: members}
	for _, p := range parts {
		w.policy(p.policy)
		w.policy(p.reach)
		for _, pk := range p.picks {
			w.pick(pk)
		}
	}
	return w.new
}

// making writes chains and sets once.
type making struct {
	batch      *batch
	there, new made
	members    func(group) []element
}

func (w *making) chain(name string) bool {
	if w.there.chains[name] || w.new.chains[name] {
		return false
	}
	w.new.chains[name] = true
	return true
}

func (w *making) set(name string) bool {
	if w.there.sets[name] || w.new.sets[name] {
		return false
	}
	w.new.sets[name] = true
	return true
}

func (w *making) group(g group) {
	made := false
	for _, f := range families {
		if w.set(g.set(f)) {
			s := newSet(g.set(f))
			s.Comment = string(g[:min(len(g), 120)])
			w.batch.addSet(s, nil)
			made = true
		}
	}
	if made {
		w.batch.addElements(w.members(g))
	}
}

// policy writes the chains of a policy. The first returns for who may, or does not return.
func (w *making) policy(p policy) {
	if !w.chain(p.accept()) {
		return
	}
	for _, g := range p.groups() {
		w.group(g)
	}
	b := w.batch
	shared := p.letPass()
	w.chain(shared)
	if p.callers != "" {
		shared = p.onNetwork()
		w.chain(shared)
	}
	var on []exprs
	for n := range split(p.networks) {
		for _, f := range families {
			on = append(on, match().ip(f).saddr(f, reg1).in(networkGroup(n).set(f)).back())
		}
	}
	b.chain(shared)
	b.comment(shared, "on "+p.networks)
	b.chain(shared, append(on, match().leave(chainRefuse))...)
	if p.callers != "" {
		var rules []exprs
		for s := range split(p.callers) {
			for _, f := range families {
				rules = append(rules, match().ip(f).saddr(f, reg1).in(serviceGroup(s).set(f)).leave(shared))
			}
		}
		b.chain(p.letPass())
		b.comment(p.letPass(), "from "+p.callers)
		b.chain(p.letPass(), append(rules, match().leave(chainRefuse))...)
	}
	b.chain(p.accept(), match().jump(p.letPass()), match().accept())
}

// slot makes the map and the chain of a slot. The chain falls back on the first slot, for a
// connection that chose while the number of slots shrank.
func (w *making) slot(f family, i int) {
	name := slotName(f, i)
	if w.set(name) {
		w.batch.addSet(newSet(name), nil)
	}
	if !w.chain(name) {
		return
	}
	rules := []exprs{match().ip(f).daddr(f, reg1).mapped(name).nat(expr.NATTypeDestNAT, f, false)}
	if i > 0 {
		rules = append(rules, match().ip(f).daddr(f, reg1).mapped(slotName(f, 0)).nat(expr.NATTypeDestNAT, f, false))
	}
	w.batch.chain(name, rules...)
}

func (w *making) pick(p pick) {
	for i := range p.slots {
		w.slot(p.family, i)
	}
	if !w.chain(p.chain()) {
		return
	}
	verdicts := make([]*expr.Verdict, p.slots)
	for i := range verdicts {
		verdicts[i] = &expr.Verdict{Kind: expr.VerdictGoto, Chain: slotName(p.family, i)}
	}
	m := w.batch.verdictMap(verdicts)
	w.batch.chain(p.chain(), match(
		&expr.Numgen{Register: reg1, Modulus: uint32(p.slots), Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: reg1, DestRegister: reg1, Op: expr.ByteorderHton, Len: 4, Size: 4},
	).vmap(m.Name, m.ID))
}

// unneeded gives what no service needs any more, of what there may be much: the chains of policies,
// in the order to drop them, and groups.
func (st *tableState) unneeded() (chains, sets []string) {
	needed := map[string]bool{}
	for p := range st.policies {
		needed[p.accept()], needed[p.letPass()], needed[p.onNetwork()] = true, true, true
		for _, g := range p.groups() {
			needed[g.set(four)], needed[g.set(six)] = true, true
		}
	}
	for _, prefix := range []string{prefixAccept, prefixLetPass, prefixOnNetwork} {
		for name := range st.made.chains {
			if len(name) > len(prefix) && name[:len(prefix)] == prefix && !needed[name] {
				chains = append(chains, name)
			}
		}
	}
	for name := range st.made.sets {
		if setKind(name) == setGroup && !needed[name] {
			sets = append(sets, name)
		}
	}
	slices.Sort(sets)
	return chains, sets
}
