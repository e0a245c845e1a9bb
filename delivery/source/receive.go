package source

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// receive takes a push. The refs are moved by git; what follows is made durable before the client is
// told that they were, and then told about in the same answer. A client that leaves changes nothing.
func (c *exchange) receive(body io.Reader, to io.Writer, flush func() error) error {
	request, err := readPush(body)
	if err != nil {
		return err
	}
	push := maru.Push{ID: rand.Text(), Repository: c.id, Updates: request.updates, Options: request.options, By: c.token}
	if len(push.Updates) == 0 {
		push.ID = "" // a client that tries whether it is let in
	}
	var refused string
	var admitted Admission
	if push.ID != "" {
		if admitted, err = c.receiver.Admit(c.ctx, push); err != nil {
			if maru.KindOf(err) == maru.Internal {
				return err
			}
			push.ID, refused = "", withHint(err)
		}
	}
	cmd := c.git(context.WithoutCancel(c.ctx), "receive-pack", "--stateless-rpc", c.dir)
	cmd.Env = append(cmd.Env, refusedVariable+"="+refused, protectedVariable+"="+strings.Join(admitted.Protected, " "), unwantedVariable+"="+unwantedLines(admitted.Unwanted))
	cmd.Stdin = bytes.NewReader(request.raw)
	if request.hasPack() {
		cmd.Stdin = io.MultiReader(cmd.Stdin, body)
	}
	cmd.WaitDelay = time.Second // for a client that goes on sending what git gave up
	answer, err := cmd.StdoutPipe()
	if err != nil {
		return gitError(c.service, err, "")
	}
	if err := cmd.Start(); err != nil {
		return gitError(c.service, err, "")
	}
	out := &answerWriter{w: to, flush: flush, sideband: request.sideband}
	report, copyErr := out.relay(answer)
	if err := cmd.Wait(); err != nil || copyErr != nil {
		c.repositories.log.Debug("a push ended early", "repository", c.id.String(), "error", errors.Join(err, copyErr))
	}
	c.conclude(push, out, report)
	return nil
}

// conclude tells what became of a push.
func (c *exchange) conclude(push maru.Push, out *answerWriter, report []byte) {
	follow, err := c.record(push)
	if err != nil {
		c.repositories.log.Error("what follows from a push is not recorded; the next start of the server makes up for it", "repository", c.id.String(), "error", err)
		err = maru.Errorf(maru.Unavailable, "the refs are moved, but what follows could not be recorded: the server makes up for it when it starts next")
	}
	out.write(report)
	if out.sideband {
		if err == nil {
			stop := out.keepAlive(c.repositories.cfg.KeepAlive)
			err = follow(c.ctx, out.tell)
			stop()
		}
		if err != nil {
			if hint := maru.HintOf(err); hint != "" {
				out.tell(hint)
			}
			// The refs are reported as moved, which they are; this makes git push itself fail.
			out.band(errorBand, err.Error())
		}
	}
	if len(report) > 0 {
		out.write([]byte(flushLine))
	}
}

// record hands on those updates of an admitted push that were made.
func (c *exchange) record(push maru.Push) (follow func(context.Context, func(string)) error, err error) {
	if push.ID == "" {
		return func(context.Context, func(string)) error { return nil }, nil
	}
	if push.Updates, err = c.made(push.Updates); err != nil {
		return nil, err
	}
	return c.receiver.Received(context.WithoutCancel(c.ctx), push)
}

// made gives those updates that the repository has now.
func (c *exchange) made(updates []maru.RefUpdate) ([]maru.RefUpdate, error) {
	out, err := c.repositories.output(context.WithoutCancel(c.ctx), c.dir, "for-each-ref", "--format=%(objectname) %(refname)")
	if err != nil {
		return nil, err
	}
	now := map[string]string{}
	for line := range strings.Lines(out) {
		if object, ref, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			now[ref] = object
		}
	}
	var made []maru.RefUpdate
	for _, u := range updates {
		if now[u.Ref] == u.New && u.Old != u.New {
			made = append(made, u)
		}
	}
	return made, nil
}

func withHint(err error) string {
	if hint := maru.HintOf(err); hint != "" {
		return err.Error() + "\n" + hint
	}
	return err.Error()
}

// answerWriter writes the answer to a push. Once the client is gone it writes nothing more.
type answerWriter struct {
	w        io.Writer
	flush    func() error
	sideband bool

	mu   sync.Mutex
	last time.Time
	gone bool
}

func (a *answerWriter) write(data []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone || len(data) == 0 {
		return
	}
	a.last = time.Now()
	_, err := a.w.Write(data)
	if err == nil {
		err = a.flush()
	}
	a.gone = err != nil
}

// relay passes on what git tells while it works, and gives its report, which is kept back.
func (a *answerWriter) relay(from io.Reader) (report []byte, err error) {
	if !a.sideband {
		// All of it is the report; its flush is added again when it is written.
		all, err := io.ReadAll(from)
		return bytes.TrimSuffix(all, []byte(flushLine)), err
	}
	r := bufio.NewReader(from)
	for {
		line, flush, err := readLine(r)
		switch {
		case flush:
			_, err := io.Copy(io.Discard, r)
			return report, err
		case errors.Is(err, io.EOF):
			return report, nil
		case err != nil:
			_, _ = io.Copy(io.Discard, r)
			return report, err
		case len(line) > 1 && line[0] == dataBand:
			report = appendLine(report, line)
		default:
			a.write(appendLine(nil, line))
		}
	}
}

// band writes a text on a band.
func (a *answerWriter) band(band byte, text string) {
	data := []byte(printable(text) + "\n")
	for len(data) > 0 {
		n := min(len(data), longest-lengthSize-1)
		a.write(appendLine(nil, []byte{band}, data[:n]))
		data = data[n:]
	}
}

// printable takes out what could do something to a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, text)
}

// tell shows a line to the person who pushed.
func (a *answerWriter) tell(line string) { a.band(progressBand, line) }

// keepAlive sends something when nothing else is sent for a while, until stop is called.
func (a *answerWriter) keepAlive(gap time.Duration) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(gap)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			a.mu.Lock()
			quiet := time.Since(a.last) >= gap
			a.mu.Unlock()
			if quiet {
				a.write(appendLine(nil, []byte{progressBand}))
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}
