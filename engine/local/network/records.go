package network

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/marucloud/maru"
)

// attachment is an instance's network as made.
type attachment struct {
	ID   string `json:"id"`
	Link string `json:"link"` // on the host
	Spec
}

// machine is what was changed for all instances together.
type machine struct {
	Settings  []setting `json:"settings,omitempty"`
	Firewalld bool      `json:"firewalld,omitempty"` // it was asked to trust the instances
}

func (n *Network) netnsDir() string           { return filepath.Join(n.cfg.RunDir, "netns") }
func (n *Network) netnsPath(id string) string { return filepath.Join(n.netnsDir(), id) }
func (n *Network) usernsDir() string          { return filepath.Join(n.cfg.RunDir, "userns") }
func (n *Network) recordDir() string          { return filepath.Join(n.cfg.RunDir, "network") }
func (n *Network) machinePath() string        { return filepath.Join(n.recordDir(), ".machine") }

// UserNamespace is where the user namespace of an instance is, if it was attached with users.
func (n *Network) UserNamespace(id string) string { return filepath.Join(n.usernsDir(), id) }

const recordSuffix = ".json"

func (n *Network) recordPath(id string) string { return filepath.Join(n.recordDir(), id+recordSuffix) }

// checkID keeps instances' IDs what file names can be.
func checkID(id string) error {
	if id == "" || len(id) > 200 || id[0] == '.' || strings.ContainsAny(id, "/\x00") {
		return maru.Errorf(maru.Invalid, "instance %q can't be the name of a file", id)
	}
	return nil
}

// writeFile replaces a file as a whole. The folder is on a tmpfs: there is nothing to sync.
func writeFile(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (n *Network) readMachine() (m machine, found bool, err error) {
	data, err := os.ReadFile(n.machinePath())
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	return m, true, json.Unmarshal(data, &m)
}

// readRecords gives what was attached, by an earlier process too. A record that can't be read is as
// good as none: what it was of is removed by Sweep.
func (n *Network) readRecords() ([]attachment, error) {
	entries, err := os.ReadDir(n.recordDir())
	if err != nil {
		return nil, err
	}
	var out []attachment
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok {
			continue
		}
		data, err := os.ReadFile(n.recordPath(id))
		if err != nil {
			return nil, err
		}
		var a attachment
		if err := json.Unmarshal(data, &a); err != nil || a.ID != id {
			n.log.Warn("record of an instance's network is not readable", "instance", id, "error", err)
			continue
		}
		out = append(out, a)
	}
	return out, nil
}
