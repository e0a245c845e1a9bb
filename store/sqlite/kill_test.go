package sqlite

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/crash"
	"github.com/marucloud/maru/internal/crash/crashtest"
)

const childVariable = "STORE_TEST_FILE"

// TestChild commits until it is killed, and prints what was acknowledged: writer, number, revision.
func TestChild(t *testing.T) {
	path := os.Getenv(childVariable)
	if path == "" {
		t.Skip("runs as the child of other tests")
	}
	store, err := Open(path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var printing sync.Mutex
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := before(t, store, w) + 1; ; n++ {
				revision, err := store.Commit(ctx,
					maru.Change{Key: latest(w), Expect: maru.Any, Data: json.RawMessage(fmt.Sprint(n))},
					maru.Change{Key: number(w, n), Data: json.RawMessage(`"` + strings.Repeat("x", n%3000) + `"`)},
					maru.Change{Key: number(w, n-20), Expect: maru.Any},
				)
				if err != nil {
					fmt.Println("error", err)
					return
				}
				printing.Lock()
				fmt.Println("acknowledged", w, n, revision)
				printing.Unlock()
			}
		})
	}
	writers.Go(func() {
		for {
			if err := store.Compact(ctx, time.Now().Add(time.Hour), 100); err != nil {
				fmt.Println("error", err)
				return
			}
		}
	})
	writers.Wait()
}

// before gives the last number of the writer in an earlier life.
func before(t *testing.T, store *Store, w int) (n int) {
	object, err := store.Get(t.Context(), latest(w))
	if maru.KindOf(err) == maru.NotFound {
		return 0
	}
	if err == nil {
		err = json.Unmarshal(object.Data, &n)
	}
	if err != nil {
		t.Error(err)
	}
	return n
}

func latest(w int) maru.Key    { return maru.Key{Kind: "latest", Name: fmt.Sprint(w)} }
func number(w, n int) maru.Key { return maru.Key{Kind: "number", Name: fmt.Sprintf("%d/%08d", w, n)} }

// child runs TestChild, kills it after lines of output if lines > 0, and gives the last number that
// each writer was told is committed, and the last revision.
func child(t *testing.T, path string, lines int, env ...string) (last map[int]int, head maru.Revision) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), append(env, childVariable+"="+path)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last = map[int]int{}
	scanner := bufio.NewScanner(out)
	for n := 1; scanner.Scan(); n++ {
		var w, i int
		var revision maru.Revision
		if _, err := fmt.Sscanf(scanner.Text(), "acknowledged %d %d %d", &w, &i, &revision); err != nil {
			t.Errorf("the child said %q", scanner.Text())
		}
		last[w], head = i, max(head, revision)
		if n == lines {
			_ = cmd.Process.Kill()
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v", err)
	}
	return last, head
}

// survived checks that a killed child's store has all that was acknowledged, and only whole commits.
func survived(t *testing.T, path string, last map[int]int, head maru.Revision) {
	t.Helper()
	store, err := Open(path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, revision, err := store.List(t.Context(), "none", "")
	if err != nil || revision < head {
		t.Errorf("revision %d, %v; %d was acknowledged", revision, err, head)
	}
	for w, acknowledged := range last {
		object, err := store.Get(t.Context(), latest(w))
		if err != nil {
			t.Fatalf("writer %d: %v", w, err)
		}
		n, err := strconv.Atoi(string(object.Data))
		if err != nil || n < acknowledged {
			t.Errorf("writer %d is at %s, %d was acknowledged", w, object.Data, acknowledged)
		}
		objects, _, err := store.List(t.Context(), "number", fmt.Sprint(w, "/"))
		if err != nil || len(objects) != min(n, 20) || objects[len(objects)-1].Key != number(w, n) {
			t.Errorf("writer %d at %d has %d numbers, %v", w, n, len(objects), err)
		}
	}
	if err := check(t.Context(), path); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), temporaries) {
			t.Errorf("%s is left over", e.Name())
		}
	}
	if revision == 0 {
		return
	}
	at := max(revision-10, 0)
	for event, err := range store.Watch(t.Context(), at) {
		if err != nil || event.Revision != at+1 {
			t.Errorf("after %d: %v, %v", at, event, err)
			break
		}
		if at++; at == revision {
			break
		}
	}
}

func TestKilledAtAnyInstant(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	path := filepath.Join(t.TempDir(), "maru.db")
	for round := range rounds {
		last, head := child(t, path, 1+round*97)
		survived(t, path, last, head)
	}
}

func TestKilledAtEachPoint(t *testing.T) {
	points := crashtest.Points(t, "store")
	if len(points) < 6 {
		t.Fatalf("found %q", points)
	}
	for _, point := range points {
		if strings.HasPrefix(point, "store.keep.") {
			continue // see TestMigrationKilled
		}
		t.Run(point, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "maru.db")
			last, head := child(t, path, 0, crash.Variable+"="+point)
			survived(t, path, last, head)
		})
	}
}
