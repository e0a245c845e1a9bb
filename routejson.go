package maru

import (
	"bytes"
	"encoding/json"
	"strings"
)

// UnmarshalJSON reads a route. One that has more than this program knows, from a later version, is kept as
// it is in Unknown; host and path are read all the same, so that it is known which requests it was for.
func (r *Route) UnmarshalJSON(data []byte) error {
	type plain Route
	var known plain
	strict := json.NewDecoder(bytes.NewReader(data))
	strict.DisallowUnknownFields()
	if strict.Decode(&known) == nil {
		*r = Route(known)
		return nil
	}
	known = plain{}
	if json.Unmarshal(data, &known) != nil {
		// A key that is known has values of another kind.
		var least struct {
			Host  string `json:"host"`
			Path  string `json:"path"`
			Exact bool   `json:"exact"`
		}
		if err := json.Unmarshal(data, &least); err != nil {
			return err
		}
		known = plain{Host: least.Host, Path: least.Path, Exact: least.Exact}
	}
	*r = Route(known)
	r.Unknown = bytes.Clone(data)
	return nil
}

// MarshalJSON writes the route as UnmarshalJSON reads it.
func (r Route) MarshalJSON() ([]byte, error) {
	if r.Unknown != nil {
		return r.Unknown, nil
	}
	type plain Route
	return json.Marshal(plain(r))
}

// Understood tells, as Invalid, what of the route this program does not know; nil where it knows all.
func (r Route) Understood() error {
	if r.Unknown == nil {
		return nil
	}
	type plain Route
	strict := json.NewDecoder(bytes.NewReader(r.Unknown))
	strict.DisallowUnknownFields()
	err := strict.Decode(&plain{})
	if err == nil {
		return nil
	}
	what := strings.TrimPrefix(err.Error(), "json: ")
	return WithHint(Errorf(Invalid, "the route says more than this version knows: %s", what), "bring all of Maru to the version that the file was written for")
}
