package dockerfile

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/sirupsen/logrus"
)

var routed sync.Once

// quiet leads what BuildKit and the containerd client log, through the one logger that they share in
// a process, to the worker's own log.
func quiet(log *slog.Logger) {
	routed.Do(func() {
		logrus.SetOutput(io.Discard)
		logrus.SetLevel(logrus.WarnLevel)
		logrus.AddHook(hook{log})
	})
}

type hook struct{ log *slog.Logger }

// Levels are those that are logged.
func (hook) Levels() []logrus.Level {
	return []logrus.Level{logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel, logrus.WarnLevel}
}

// Fire logs an entry. What BuildKit calls an error may be a build's own failure: it is for debugging.
func (h hook) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	if e.Level <= logrus.FatalLevel {
		level = slog.LevelError
	}
	h.log.Log(context.Background(), level, e.Message, "part", "buildkit")
	return nil
}
