package endtoend

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeFile makes a file with the content and gives its path.
func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// detail is what some tests read of a status beyond what all do.
type detail struct {
	Services []struct {
		Name      string `json:"name"`
		Instances []struct {
			Started time.Time `json:"started"`
		} `json:"instances"`
	} `json:"services"`
}

func (m *machine) detail(t *testing.T, app string) detail {
	t.Helper()
	var d detail
	if err := json.Unmarshal([]byte(m.maru(t, "status", "--app", app, "-o", "json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}
