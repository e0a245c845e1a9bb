package remote_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/enginetest"
	"github.com/marucloud/maru/engine/memory"
	"github.com/marucloud/maru/engine/remote"
)

func TestRepositories(t *testing.T) {
	kept := memory.NewRepositories()
	client, _ := serve(t, remote.Service{Repositories: kept, Uploads: kept})
	enginetest.RunRepositories(t, func(*testing.T) enginetest.Repositories { return client }, nil)
}

func TestRepositoriesOfNoEngine(t *testing.T) {
	client, stop := serve(t, remote.Service{})
	_, err := client.Contents(t.Context(), "")
	if maru.KindOf(err) != maru.Unsupported {
		t.Error(err)
	}
	stop()
	if _, err = client.AppendUpload(t.Context(), "x", 0, strings.NewReader("")); maru.KindOf(err) != maru.Unavailable {
		t.Error(err)
	}
	if _, _, err = client.ReadContent(t.Context(), "x", 0); maru.KindOf(err) != maru.Unavailable {
		t.Error(err)
	}
}

// TestContentIsCut shows that content of which not all comes is never taken for whole.
func TestContentIsCut(t *testing.T) {
	client, _ := serve(t, remote.Service{Repositories: short{memory.NewRepositories()}})
	body, size, err := client.ReadContent(t.Context(), "sha256:0", 0)
	if err != nil || size != 1000 {
		t.Fatal(size, err)
	}
	defer body.Close()
	if data, err := io.ReadAll(body); err == nil {
		t.Errorf("%d bytes are all", len(data))
	}
}

// short gives less than it says.
type short struct{ *memory.Repositories }

func (short) ReadContent(context.Context, string, int64) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader("this is all")), 1000, nil
}
