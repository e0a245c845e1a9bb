package stream

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/marucloud/maru"
)

// serviceSecrets are those of one service, as they are kept in memory.
type serviceSecrets struct {
	Service maru.ServiceID    `json:"service"`
	Secrets map[string]string `json:"secrets"`
}

// keepSecrets remembers the secrets of services when an update changed them.
func (s *Subscriber) keepSecrets(u maru.TrafficUpdate) {
	changed := false
	put := func(id maru.ServiceID, now map[string]string) {
		if maps.Equal(s.secrets[id], now) {
			return
		}
		changed = true
		if now == nil {
			delete(s.secrets, id)
		} else {
			s.secrets[id] = now
		}
	}
	named := make(map[maru.ServiceID]bool, len(u.Services))
	for _, t := range u.Services {
		named[t.Service] = true
		put(t.Service, t.Secrets)
	}
	for _, id := range u.Removed {
		put(id, nil)
	}
	for id := range s.secrets {
		if u.Full && !named[id] {
			put(id, nil)
		}
	}
	if !changed {
		return
	}
	all := make([]serviceSecrets, 0, len(s.secrets))
	for id, secrets := range s.secrets {
		all = append(all, serviceSecrets{id, secrets})
	}
	if err := s.remember(secretsName, all); err != nil {
		s.log.Warn("secrets of routes will not be there after a restart until the server is", "error", err)
	}
}

// keptSecrets gives services those that the process before had.
func (s *Subscriber) keptSecrets(services []maru.ServiceTraffic) error {
	data, err := s.recall(secretsName)
	if err != nil || data == nil {
		return err
	}
	var all []serviceSecrets
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("kept secrets: %w", err)
	}
	for _, of := range all {
		s.secrets[of.Service] = of.Secrets
	}
	for i := range services {
		services[i].Secrets = s.secrets[services[i].Service]
	}
	return nil
}
