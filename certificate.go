package maru

import "time"

// CertificateInfo is a TLS certificate of the gateway without its key, or one that is to be.
type CertificateInfo struct {
	Name   string   `json:"name"`            // of what a person gave; else the host
	Hosts  []string `json:"hosts,omitempty"` // names and addresses that it is for
	Source string   `json:"source"`          // local, given, acme
	Issuer string   `json:"issuer,omitempty"`
	// State is valid, expired, pending (it is being got) or failed (it will be tried again).
	State     string    `json:"state"`
	Message   string    `json:"message,omitempty"` // why it is pending or failed, for people
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	Renewal   time.Time `json:"renewal,omitzero"` // when it is renewed, or tried again
	Updated   time.Time `json:"updated,omitzero"`
	By        string    `json:"by,omitempty"`
}

// Where certificates come from.
const (
	CertificateLocal = "local" // the local authority; strangers don't trust it
	CertificateGiven = "given" // a person
	CertificateACME  = "acme"  // a public authority, by ACME (RFC 8555)
)

// How certificates are.
const (
	CertificateValid   = "valid"
	CertificateExpired = "expired"
	CertificatePending = "pending"
	CertificateFailed  = "failed"
)
