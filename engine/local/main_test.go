package local_test

import (
	"os"
	"testing"

	"github.com/marucloud/maru/test/inside"
)

// engineVariable is set when the test binary runs as an engine.
const engineVariable = "MARU_TEST_ENGINE"

// testName names the cgroups and interfaces of this run.
var testName string

func TestMain(m *testing.M) {
	if os.Getenv(engineVariable) != "" {
		os.Exit(runEngine())
	}
	os.Exit(inside.Run(m, "t", &testName))
}
