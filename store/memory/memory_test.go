package memory_test

import (
	"testing"

	"github.com/marucloud/maru/store/memory"
	"github.com/marucloud/maru/store/storetest"
)

func open(testing.TB, string) storetest.Store { return memory.New() }

func TestStore(t *testing.T) { storetest.Run(t, open) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }
