package stream

import (
	"encoding/json"
	"io"

	"github.com/marucloud/maru"
)

const (
	updatesPath = "/traffic/v1/updates"
	reportsPath = "/traffic/v1/reports"
	// evidencePath takes how requests went that were drawn between two releases.
	evidencePath = "/traffic/v1/evidence"
	// streamHeader names a stream: the answer gives it, and reports tell it.
	streamHeader = "Maru-Stream"

	// frameServices is how many services one line holds, so that neither side ever has a line in
	// memory that is as large as everything there is.
	frameServices = 500
)

// frame is one line: a part of an update. The update is whole when More is false.
type frame struct {
	maru.TrafficUpdate
	More bool `json:"more,omitempty"`
}

// writeFrames writes the update in lines.
func writeFrames(w io.Writer, u maru.TrafficUpdate) error {
	enc := json.NewEncoder(w)
	services := u.Services
	for {
		n := min(len(services), frameServices)
		u.Services, services = services[:n], services[n:]
		if err := enc.Encode(frame{u, len(services) > 0}); err != nil {
			return err
		}
		if len(services) == 0 {
			return nil
		}
		u = maru.TrafficUpdate{Version: u.Version}
	}
}

// frameReader puts updates together again.
type frameReader struct {
	dec *json.Decoder
}

func newFrameReader(r io.Reader) *frameReader { return &frameReader{dec: json.NewDecoder(r)} }

// next gives the next update.
func (r *frameReader) next() (maru.TrafficUpdate, error) {
	var whole maru.TrafficUpdate
	for first := true; ; first = false {
		var f frame
		if err := r.dec.Decode(&f); err != nil {
			return maru.TrafficUpdate{}, err
		}
		if first {
			whole = f.TrafficUpdate
		} else {
			whole.Services = append(whole.Services, f.Services...)
			whole.Removed = append(whole.Removed, f.Removed...)
		}
		if !f.More {
			return whole, nil
		}
	}
}
