// Package oidc has the tests of logins through the gateway at a login provider that is not Maru's: the OpenID
// certified one of zitadel/oidc.
package oidc
