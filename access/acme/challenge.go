package acme

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/marucloud/maru"
)

// solvers show whose a host is: by DNS where that was configured, else by HTTP and TLS.
func (m *Manager) solvers() map[string]acmez.Solver {
	if m.cfg.DNS != nil {
		return map[string]acmez.Solver{acme.ChallengeTypeDNS01: dnsSolver{m.cfg.DNS}}
	}
	return map[string]acmez.Solver{
		acme.ChallengeTypeHTTP01: doorSolver{m, func(c acme.Challenge) (maru.Challenge, error) {
			return maru.Challenge{Host: c.Identifier.Value, Token: c.Token, Answer: c.KeyAuthorization}, nil
		}},
		acme.ChallengeTypeTLSALPN01: doorSolver{m, certified},
	}
}

// certified makes the certificate that is shown to an authority that asks by TLS.
func certified(c acme.Challenge) (maru.Challenge, error) {
	made, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return maru.Challenge{}, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return maru.Challenge{}, err
	}
	return maru.Challenge{Host: c.Identifier.Value, Token: "tls:" + c.Token, Certificate: &maru.Certificate{
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}}, nil
}

// doorSolver has the gateway answer.
type doorSolver struct {
	m    *Manager
	make func(acme.Challenge) (maru.Challenge, error)
}

// Present returns when the gateway answers the challenge.
func (s doorSolver) Present(ctx context.Context, c acme.Challenge) error {
	made, err := s.make(c)
	if err != nil {
		return err
	}
	return s.m.challenge(ctx, func(all []maru.Challenge) []maru.Challenge { return append(all, made) })
}

// CleanUp has the gateway answer it no more.
func (s doorSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	return s.m.challenge(ctx, func(all []maru.Challenge) []maru.Challenge {
		return slices.DeleteFunc(all, func(one maru.Challenge) bool { return one.Token == c.Token || one.Token == "tls:"+c.Token })
	})
}

func (m *Manager) challenge(ctx context.Context, change func([]maru.Challenge) []maru.Challenge) error {
	m.mu.Lock()
	m.asked = change(slices.Clone(m.asked))
	all := m.asked
	m.mu.Unlock()
	return m.challenger.Challenge(ctx, all)
}
