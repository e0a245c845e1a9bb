package compose

import "github.com/marucloud/maru"

// limits reads how many requests may be at the service at once, or a mapping that says more of it.
func (d decoder) limits(n *node, path string) maru.Limits {
	if n == nil || n.kind == nullNode {
		return maru.Limits{}
	}
	if n.kind == scalarNode {
		return maru.Limits{Concurrency: d.concurrency(n, path)}
	}
	if !d.mapping(n, path, "concurrency", "queue", "wait") {
		return maru.Limits{}
	}
	l := maru.Limits{
		Concurrency: d.concurrency(n.get("concurrency"), joinKey(path, "concurrency")),
		Queue:       d.integer(n.get("queue"), joinKey(path, "queue"), 0, 1_000_000),
		Wait:        d.duration(n.get("wait"), joinKey(path, "wait")),
	}
	if n.get("concurrency") == nil {
		d.invalid(n, path, "does not say how many requests may be there at once", "write concurrency: auto, or a number")
	}
	if l.Wait > 0 && l.Queue == 0 {
		d.invalid(n.get("wait"), joinKey(path, "wait"), "nothing waits without a queue", "say with queue how many requests may wait")
	}
	return l
}

// concurrency reads a number of requests, or auto, which is -1.
func (d decoder) concurrency(n *node, path string) int {
	if n == nil || n.kind == nullNode {
		return 0
	}
	if n.text() == "auto" {
		return -1
	}
	return d.integer(n, path, 1, 1_000_000)
}

func (d decoder) priority(n *node, path string) maru.Priority {
	return maru.Priority(d.choice(n, path, string(maru.LowPriority), string(maru.NormalPriority), string(maru.HighPriority)))
}
