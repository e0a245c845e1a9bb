// Package local is the engine that runs instances as containers on this machine. It is the whole of
// the process maru runtime: containerd embedded as a library, images and snapshots, the instances'
// networks, volumes and logs.
//
// What is wanted is kept on disk, so that the engine heals by itself, with no server to ask. Each
// workload has one goroutine, its actor, which owns what is known of its instances, asks the decider
// plan.Instances what to do, and starts those actions. Each instance runs under a containerd shim of
// its own, which also writes its log, so that instances and logs go on when this process dies; a new
// one finds them, carries on, and removes what belongs to nothing.
package local
