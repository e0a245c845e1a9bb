package maru

import "time"

// Role is what a caller may do within its scope. Each may do what the one before may.
type Role string

// The roles.
const (
	RoleRead   Role = "read"   // sees everything but secret values
	RoleDeploy Role = "deploy" // changes apps: deploys, scales, reaches into instances, sets secrets
	RoleAdmin  Role = "admin"  // makes tokens; without a scope also grants, backups, restores
)

// Includes tells whether the role may do all that other may.
func (r Role) Includes(other Role) bool { return r.rank() >= other.rank() && other.rank() > 0 }

// Valid tells whether it is one of the roles.
func (r Role) Valid() bool { return r.rank() > 0 }

func (r Role) rank() int {
	switch r {
	case RoleRead:
		return 1
	case RoleDeploy:
		return 2
	case RoleAdmin:
		return 3
	}
	return 0
}

// Covers tells whether other is within s, in which empty parts match all.
func (s Scope) Covers(other Scope) bool {
	return (s.Project == "" || s.Project == other.Project) &&
		(s.Environment == "" || s.Environment == other.Environment) &&
		(s.App == "" || s.App == other.App)
}

// Token is a credential of the API, without its secret. Empty parts of its scope match all.
type Token struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Role     Role      `json:"role"`
	Scope    Scope     `json:"scope"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"` // zero: never
	LastUsed time.Time `json:"lastUsed,omitzero"`
	By       string    `json:"by"`
	SSHKeys  []string  `json:"sshKeys,omitempty"` // public keys whose owners are let in as with the token, as lines of authorized_keys
}

// Grant lets the apps of a scope have something of the host. Empty parts of the scope match all.
type Grant struct {
	Scope   Scope     `json:"scope"`
	Ability string    `json:"ability"` // part of the host, such as bind:/srv/data, cap:NET_ADMIN, device:/dev/kvm, privileged, or host for all; a path grants what is below it
	Created time.Time `json:"created"`
	By      string    `json:"by"`
}

// SecretInfo is a secret without its value. An empty app in its scope shares it with the
// environment's apps.
type SecretInfo struct {
	Scope   Scope     `json:"scope"`
	Name    string    `json:"name"`
	Version int       `json:"version"` // the newest
	Updated time.Time `json:"updated"`
	By      string    `json:"by"`
}
