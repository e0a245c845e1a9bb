package compose

import "github.com/marucloud/maru"

// balance reads a way of balancing, or a mapping that says more of it.
func (d decoder) balance(n *node, path string) maru.Balance {
	var b maru.Balance
	if n == nil || n.kind == nullNode {
		return b
	}
	if n.kind == scalarNode {
		b.Policy = d.balancePolicy(n, path)
		return b
	}
	if !d.mapping(n, path, "policy", "hash", "slow_start") {
		return b
	}
	b.Policy = d.balancePolicy(n.get("policy"), joinKey(path, "policy"))
	if hash := n.get("hash"); hash != nil {
		if b.Policy != "" {
			d.invalid(hash, joinKey(path, "hash"), "is a policy of its own", "leave policy out")
		}
		d.hash(hash, joinKey(path, "hash"), &b)
	}
	if slow := n.get("slow_start"); slow != nil && slow.text() == "0" {
		b.SlowStart = -1
	} else {
		b.SlowStart = d.duration(slow, joinKey(path, "slow_start"))
	}
	return b
}

func (d decoder) balancePolicy(n *node, path string) maru.BalancePolicy {
	return maru.BalancePolicy(d.choice(n, path, string(maru.Prequal), string(maru.RoundRobin), string(maru.LeastRequests)))
}

// hash reads what requests are told apart by.
func (d decoder) hash(n *node, path string, b *maru.Balance) {
	b.Policy = maru.Hash
	if n.kind == scalarNode {
		d.choice(n, path, "address")
		return
	}
	if !d.mapping(n, path, "header", "cookie") {
		return
	}
	b.Header = d.field(n.get("header"), joinKey(path, "header"))
	b.Cookie = d.field(n.get("cookie"), joinKey(path, "cookie"))
	if (b.Header == "") == (b.Cookie == "") {
		d.invalid(n, path, "needs a header or a cookie", "write hash: {header: X-User}, hash: {cookie: session} or hash: address")
	}
}

// field reads the name of a header field or a cookie.
func (d decoder) field(n *node, path string) string {
	name := d.text(n, path)
	if n != nil && n.kind == scalarNode && !headerForm.MatchString(name) {
		d.invalid(n, path, "is not a name that a header can have", "")
	}
	return name
}
