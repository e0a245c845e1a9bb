// Package acme has the tests of certificates from an authority by ACME: the orders of the control plane, the
// stream to the proxy and its answers, with Pebble as the authority.
package acme
