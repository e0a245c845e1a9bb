// Package chaos kills Maru's processes at random instants and at every named point of their work, and
// looks whether all is as it was asked for afterwards, with nothing left over.
package chaos

import (
	"os"
	"testing"

	"github.com/marucloud/maru/test/host"
)

func TestMain(m *testing.M) {
	inside, code := host.Enter()
	if inside {
		code = m.Run()
	}
	os.Exit(code)
}
