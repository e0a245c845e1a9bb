package local

import (
	"context"
	"io"
	"log/slog"
	"slices"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// redirectLog has containerd, whose logger is global, write warnings and worse to ours.
func redirectLog(to *slog.Logger) {
	log.L.Logger.SetOutput(io.Discard)
	log.L.Logger.SetLevel(logrus.WarnLevel)
	log.L.Logger.ReplaceHooks(logrus.LevelHooks{})
	log.L.Logger.AddHook(logHook{to.With("part", "containerd")})
}

type logHook struct{ to *slog.Logger }

func (logHook) Levels() []logrus.Level {
	return []logrus.Level{logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel, logrus.WarnLevel}
}

// Fire passes an entry on, one level below its own: what matters to the engine it learns by errors.
func (h logHook) Fire(entry *logrus.Entry) error {
	names := make([]string, 0, len(entry.Data))
	for name := range entry.Data {
		names = append(names, name)
	}
	slices.Sort(names)
	attributes := []slog.Attr{slog.String("says", entry.Message)}
	for _, name := range names {
		attributes = append(attributes, slog.Any(name, entry.Data[name]))
	}
	level := slog.LevelDebug
	if entry.Level <= logrus.ErrorLevel {
		level = slog.LevelInfo
	}
	h.to.LogAttrs(context.Background(), level, "message of containerd", attributes...)
	return nil
}
