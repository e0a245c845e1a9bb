// Package traffic is the data plane: one process that carries requests to instances that are ready.
//
// It takes its state as [maru.TrafficUpdate]s, from a server by traffic/stream or straight through
// [Proxy.Update], and needs nothing else: neither server nor engine has to be there while it serves.
// The parts stand in folders of their own and share one state (traffic/table) and one request path
// (traffic/forward): traffic/gateway answers the outside by host and path, traffic/mesh carries HTTP
// from service to service, traffic/publish holds published host ports, traffic/discovery answers
// names. This package puts them together.
package traffic
