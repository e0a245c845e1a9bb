package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

const app = `
name: main
services:
  web:
    image: example.test/service:1
    environment: {VERSION: "%s"}
    secrets: [key]
    deploy: {replicas: 2}
    x-maru: {route: main.localhost, health: /healthz, drain: 1s}
  store:
    image: example.test/service:1
    environment: {VERSION: "%s"}
    volumes: [data:/data]
    stop_grace_period: 1s
    x-maru: {health: /healthz, drain: 1s}
volumes: {data: {}}
secrets: {key: {external: true}}
`

const extra = `
name: extra
services:
  web:
    image: example.test/service:1
    environment: {VERSION: "%s"}
    x-maru: {route: extra.localhost, health: /healthz, drain: 1s}
`

// state is what the main app is, as far as one can ask for it.
type state struct {
	version string
	secret  string // as of the last deploy
	scale   int
	extra   bool // the other app is there
}

// world is a machine and what was asked of it.
type world struct {
	*host.Machine
	random   *rand.Rand
	now      state
	secret   string         // as last set, for the next deploy
	rollouts map[int]state  // by number: what was seen after it
	count    int            // of operations, for names that were not there before
	asked    map[string]int // operations by name
}

func newWorld(t *testing.T, seed uint64, environment ...string) *world {
	t.Helper()
	w := &world{Machine: host.Start(t, environment...), random: rand.New(rand.NewPCG(seed, 1)),
		rollouts: map[int]state{}, asked: map[string]int{}}
	w.LoadImage(t)
	return w
}

// begin brings the world to its first state.
func (w *world) begin(t *testing.T) {
	t.Helper()
	w.must(t, w.deploy("0"))
	w.settle(t, []state{w.now})
}

func (w *world) must(t *testing.T, o operation) {
	t.Helper()
	if err := w.do(t.Context(), o); err != nil {
		t.Fatalf("%s: %v", o.name, err)
	}
	w.now = o.then
	if o.done != nil {
		o.done()
	}
}

// operation is something to ask for.
type operation struct {
	name string
	args []string
	file string // content of a secret
	then state  // afterwards, when it is acknowledged
	done func()
}

func (w *world) do(ctx context.Context, o operation) error {
	args := o.args
	if o.file != "" {
		path := filepath.Join(w.Layout.Data, "..", "secret")
		if err := os.WriteFile(path, []byte(o.file), 0o600); err != nil {
			return err
		}
		args = append(slices.Clone(args), "--from", path)
	}
	_, err := w.Run(ctx, args...)
	return err
}

func (w *world) deployText(name, text string, then state) operation {
	path, err := w.Compose(text)
	if err != nil {
		panic(err)
	}
	return operation{name: name, args: []string{"deploy", "-f", path}, then: then}
}

func (w *world) deploy(version string) operation {
	if w.secret == "" {
		o := w.setSecret("first")
		if err := w.do(context.Background(), o); err != nil {
			panic(err)
		}
		o.done()
	}
	then := w.now
	then.version, then.secret = version, w.secret
	if then.scale == 0 {
		then.scale = 2
	}
	return w.deployText("deploy", fmt.Sprintf(app, version, version), then)
}

func (w *world) setSecret(value string) operation {
	return operation{name: "secret set", args: []string{"secret", "set", "--app", "main", "key"}, file: value, then: w.now,
		done: func() { w.secret = value }}
}

func (w *world) rollback(number int) operation {
	then := w.now
	then.version, then.secret = w.rollouts[number].version, w.rollouts[number].secret
	return operation{name: "rollback", args: []string{"rollback", "--app", "main", strconv.Itoa(number)}, then: then}
}

func (w *world) scale(n int) operation {
	then := w.now
	then.scale = n
	return operation{name: "scale", args: []string{"scale", "--app", "main", "web", strconv.Itoa(n)}, then: then}
}

// toggle deploys the other app, or removes it.
func (w *world) toggle() operation {
	then := w.now
	then.extra = !then.extra
	if then.extra {
		return w.deployText("deploy extra", fmt.Sprintf(extra, fmt.Sprint("x", w.count)), then)
	}
	return operation{name: "remove", args: []string{"rm", "--yes", "--app", "extra"}, then: then}
}

// choose gives a random operation.
func (w *world) choose() operation {
	w.count++
	switch w.random.IntN(5) {
	case 0:
		return w.deploy(fmt.Sprint(w.count))
	case 1:
		numbers := slices.Sorted(maps.Keys(w.rollouts))
		return w.rollback(numbers[w.random.IntN(len(numbers))])
	case 2:
		return w.scale(1 + w.random.IntN(3))
	case 3:
		return w.setSecret(fmt.Sprint("secret ", w.count))
	default:
		return w.toggle()
	}
}

// settle waits until the machine is in one of the states and nothing is left over, and notes which.
func (w *world) settle(t *testing.T, allowed []state) {
	t.Helper()
	var why error
	ok := host.Wait(t.Context(), time.Minute, func() bool {
		for _, s := range allowed {
			number, err := w.is(t.Context(), s)
			if err == nil {
				w.now, w.rollouts[number] = s, s
				return true
			}
			why = fmt.Errorf("not %+v: %w", s, err)
		}
		return false
	})
	if !ok {
		status, _ := w.Run(context.Background(), "status", "--app", "main")
		t.Fatalf("%v\n%s", why, status.Out)
	}
}

// is tells why the machine is not in the state, or the number of the rollout that brought it there.
func (w *world) is(ctx context.Context, s state) (number int, err error) {
	main, err := w.Status(ctx, "main")
	if err != nil {
		return 0, err
	}
	if main.State != "running" {
		return 0, fmt.Errorf("main is %s, rollout %s", main.State, main.Rollout.Phase)
	}
	web, store := main.Of("web").Instances, main.Of("store").Instances
	if len(web) != s.scale || len(store) != 1 {
		return 0, fmt.Errorf("%d of web, %d of store", len(web), len(store))
	}
	all := slices.Concat(web, store)
	for _, i := range all {
		if err := w.serves(i, s.version); err != nil {
			return 0, err
		}
	}
	for _, i := range web {
		if found, err := ask("http://"+i.AddressV4+":8080/file?path=/run/secrets/key", ""); err != nil || found != s.secret {
			return 0, fmt.Errorf("the secret of %s is %q, %w", i.ID, found, err)
		}
	}
	if _, err := ask("http://"+w.HTTP+"/", "main.localhost"); err != nil {
		return 0, err
	}
	others, err := w.Apps(ctx)
	if err != nil {
		return 0, err
	}
	if there := slices.Contains(others, "extra"); there != s.extra {
		return 0, fmt.Errorf("extra is there: %t", there)
	}
	if s.extra {
		other, err := w.Status(ctx, "extra")
		if err != nil {
			return 0, err
		}
		if other.State != "running" {
			return 0, fmt.Errorf("extra is %s", other.State)
		}
		if _, err := ask("http://"+w.HTTP+"/", "extra.localhost"); err != nil {
			return 0, err
		}
		all = append(all, other.Of("web").Instances...)
	}
	if left := w.Leftovers(ctx, all); len(left) > 0 {
		return 0, fmt.Errorf("left over: %s", strings.Join(left, "; "))
	}
	return main.Rollout.Number, nil
}

func (w *world) serves(i host.Instance, version string) error {
	body, err := ask("http://"+i.AddressV4+":8080/", "")
	if err != nil {
		return err
	}
	var who struct{ Instance, Version string }
	if err := json.Unmarshal([]byte(body), &who); err != nil {
		return err
	}
	if !i.Ready || who.Instance != i.ID || who.Version != version {
		return fmt.Errorf("%s (ready: %t) answers %s", i.ID, i.Ready, body)
	}
	return nil
}

var client = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func ask(url, asHost string) (string, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if asHost != "" {
		request.Host = asHost
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s answers %s: %.200s", asHost, url, response.Status, body)
	}
	return string(body), err
}

func put(url, text string) (string, error) {
	request, err := http.NewRequest(http.MethodPut, url, strings.NewReader(text))
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %.200s", url, response.Status, body)
	}
	return string(body), err
}
