package backup

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"

	"github.com/marucloud/maru"
)

// longestObject is the most that one object of a state may be, so that a bad file takes no more
// memory.
const longestObject = 64 << 20

// line is an object as it is kept: its revision is the store's own.
type line struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	Data json.RawMessage `json:"data"`
}

func writeState(ctx context.Context, state State, w io.Writer) error {
	out := bufio.NewWriter(w)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for o, err := range state.All(ctx) {
		if err != nil {
			return err
		}
		if err := encoder.Encode(line{o.Kind, o.Name, o.Data}); err != nil {
			return maru.Errorf(maru.KindOf(err), "back up %s %q: %w", o.Kind, o.Name, err)
		}
	}
	return out.Flush()
}

// readState gives the changes that make a store what the state was.
func readState(r io.Reader) ([]maru.Change, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, longestObject)
	var changes []maru.Change
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return nil, maru.Errorf(maru.Invalid, "the backup's state: %w", err)
		}
		if l.Kind == "" || l.Name == "" || l.Data == nil {
			return nil, maru.Errorf(maru.Invalid, "the backup's state has an object without kind, name or data")
		}
		changes = append(changes, maru.Change{Key: maru.Key{Kind: l.Kind, Name: l.Name}, Data: bytes.Clone(l.Data), Expect: maru.Any})
	}
	if err := scanner.Err(); err != nil {
		return nil, maru.Errorf(maru.KindOf(err), "the backup's state: %w", err)
	}
	return changes, nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
