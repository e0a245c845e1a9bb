// Package client is the Go SDK of Maru's API.
//
//	c, err := client.New(client.Options{Socket: "/run/maru/server.sock"})
//	apps, err := c.Apps.List(ctx, &maruv1.ListRequest{})
//
// Messages are those of the contract, api/maru/v1. Errors are [maru.Error]s with the kind and hint
// that the server gave.
package client
