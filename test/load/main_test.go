// Package load has Maru serve under load while parts of it are replaced and killed, and counts what fails.
// Its tests want the machine for themselves.
package load

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
