package network

import (
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
)

// batch is a change of our table, in force as a whole or not at all.
type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	setID uint32
	err   error // the first that could not be encoded
	done  func(error)
}

const tableFamily = nftables.TableFamilyINet

// socketBuffer has room for the largest batch and the kernel's answers to it.
const socketBuffer = 64 << 20

func bigSocket(c *netlink.Conn) error {
	if err := c.SetReadBuffer(socketBuffer); err != nil {
		return err
	}
	return c.SetWriteBuffer(socketBuffer)
}

// dial gives a connection to look around with.
func dial() (*nftables.Conn, error) { return nftables.New(nftables.WithSockOptions(bigSocket)) }

// newBatch begins a batch. The connection is kept from one batch to the next: closing one makes the
// kernel wait until all that was deleted is out of use, which takes some 10 ms. N.mu is held until
// commit.
func (n *Network) newBatch() (*batch, error) {
	if n.nft == nil {
		conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(bigSocket))
		if err != nil {
			return nil, err
		}
		n.nft = conn
	}
	return &batch{
		conn: n.nft, table: &nftables.Table{Name: n.cfg.Name, Family: tableFamily},
		done: func(err error) {
			if err != nil { // answers may still be on the way
				n.closeNFT()
			}
		},
	}, nil
}

func (n *Network) closeNFT() {
	if n.nft != nil {
		_ = n.nft.CloseLasting() // nothing is lost with it
		n.nft = nil
	}
}

// replaceTable empties the table, or makes it.
func (b *batch) replaceTable() {
	b.conn.AddTable(b.table)
	b.conn.DelTable(b.table)
	b.conn.AddTable(b.table)
}

func (b *batch) baseChain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority, rules ...exprs) {
	policy := nftables.ChainPolicyAccept
	c := b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table, Type: kind, Hooknum: hook, Priority: &priority, Policy: &policy})
	b.rules(c, rules)
}

func (b *batch) chain(name string, rules ...exprs) {
	b.rules(b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table}), rules)
}

func (b *batch) rules(c *nftables.Chain, rules []exprs) {
	for _, r := range rules {
		b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: r})
	}
}

// comment adds a rule that does nothing but tell people what the chain is for.
func (b *batch) comment(chain, text string) {
	text = text[:min(len(text), 120)]
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: &nftables.Chain{Name: chain}, Exprs: match(&expr.Counter{}),
		UserData: userdata.AppendString(nil, userdata.TypeComment, text)})
}

// dropChain deletes a chain that no rule or element leads to any more.
func (b *batch) dropChain(name string) {
	c := &nftables.Chain{Name: name, Table: b.table}
	b.conn.FlushChain(c)
	b.conn.DelChain(c)
}

func (b *batch) addSet(s *nftables.Set, elements []nftables.SetElement) {
	b.setID++
	s.ID, s.Table = b.setID, b.table
	b.fail(b.conn.AddSet(s, elements))
}

func (b *batch) dropSet(name string) {
	b.conn.DelSet(&nftables.Set{Table: b.table, Name: name})
}

// verdictMap is an anonymous map from a number to what to do. The number is big endian, since people
// are shown it so.
func (b *batch) verdictMap(verdicts []*expr.Verdict) *nftables.Set {
	s := &nftables.Set{Name: "__map%d", Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeInteger, DataType: nftables.TypeVerdict}
	s.KeyType.Bytes = 4
	elements := make([]nftables.SetElement, len(verdicts))
	for i, v := range verdicts {
		elements[i] = nftables.SetElement{Key: binaryutil.BigEndian.PutUint32(uint32(i)), VerdictData: v}
	}
	b.addSet(s, elements)
	return s
}

// An attribute of netlink has at most 64 KiB.
const elementsAtOnce = 400

func (b *batch) elements(elements []element, change func(*nftables.Set, []nftables.SetElement) error) {
	bySet := map[string][]nftables.SetElement{}
	var order []string
	for _, e := range elements {
		if bySet[e.set] == nil {
			order = append(order, e.set)
		}
		bySet[e.set] = append(bySet[e.set], e.encode())
	}
	for _, name := range order {
		s := newSet(name)
		s.Table = b.table
		for all := bySet[name]; len(all) > 0; {
			n := min(len(all), elementsAtOnce)
			b.fail(change(s, all[:n]))
			all = all[n:]
		}
	}
}

func (b *batch) addElements(elements []element)    { b.elements(elements, b.conn.SetAddElements) }
func (b *batch) removeElements(elements []element) { b.elements(elements, b.conn.SetDeleteElements) }

func (b *batch) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *batch) commit() error {
	err := b.err
	if err == nil {
		err = b.conn.Flush()
	}
	b.done(err)
	return err
}

// elementKey names an element of one of the table's sets.
type elementKey struct{ set, key string }

// element is an element of one of the table's sets: its key as bytes and, in a map, its value: an
// address as bytes, or the name of a chain.
type element struct {
	elementKey
	value string
}

func (e element) encode() nftables.SetElement {
	out := nftables.SetElement{Key: []byte(e.key)}
	switch setKind(e.set) {
	case setCallers:
		out.VerdictData = &expr.Verdict{Kind: expr.VerdictJump, Chain: e.value}
	case setReach, setVirtual:
		out.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.value}
	case setSlot:
		out.Val = []byte(e.value)
	}
	return out
}

// The sets and maps of the table. Each is there twice, its name ending in the family; of slots and
// groups there are many, named further.
const (
	setLinks    = "links"    // interface . address: what an instance may send from
	setSelf     = "self"     // address . address: an instance that reached itself by a virtual address
	setIsolated = "isolated" // addresses with no way out of the machine
	setCallers  = "callers"  // virtual address → chain that lets callers pass or refuses them
	setMesh     = "mesh"     // virtual address . port that the proxy serves
	setVirtual  = "virtual"  // virtual address → chain that picks one of its slots
	setReach    = "reach"    // instance's address → chain that accepts callers or refuses them
	setSlot     = "slot"     // virtual address → the instance in this slot
	setGroup    = "group"    // addresses of the instances on a network, or of a service
)

var fixedSets = []string{setLinks, setSelf, setIsolated, setCallers, setMesh, setVirtual, setReach}

// setKind gives what a set is from its name.
func setKind(name string) string { return strings.TrimRight(strings.SplitN(name, "-", 2)[0], "46") }

// newSet describes a set by its name alone.
func newSet(name string) *nftables.Set {
	f := four
	if strings.HasSuffix(strings.SplitN(name, "-", 2)[0], "6") {
		f = six
	}
	addr := f.addrType()
	s := &nftables.Set{Name: name, KeyType: addr, KeyByteOrder: binaryutil.BigEndian}
	switch setKind(name) {
	case setLinks:
		s.KeyType, s.Concatenation = nftables.MustConcatSetType(nftables.TypeIFName, addr), true
	case setSelf:
		s.KeyType, s.Concatenation = nftables.MustConcatSetType(addr, addr), true
	case setMesh:
		s.KeyType, s.Concatenation = nftables.MustConcatSetType(addr, nftables.TypeInetService), true
	case setCallers, setVirtual, setReach:
		s.IsMap, s.DataType = true, nftables.TypeVerdict
	case setSlot:
		s.IsMap, s.DataType = true, addr
	}
	return s
}
