package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// printJSON writes a value for programs.
func (s *shell) printJSON(v any) error {
	encoder := json.NewEncoder(s.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// printMessage writes a message of the API for programs, in its JSON form.
func (s *shell) printMessage(m proto.Message) error {
	data, err := protojson.MarshalOptions{Multiline: true, Indent: "  ", EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Stdout, "%s\n", data)
	return err
}

// done ends a command that changed something: with the server's answer for programs, else with a line
// that says what was done.
func (s *shell) done(response proto.Message, err error, what string) error {
	switch {
	case err != nil:
		return err
	case s.output == "json":
		return s.printMessage(response)
	}
	_, err = fmt.Fprintln(s.Stdout, what)
	return err
}

// printLine writes a message of a stream for programs, on one line.
func (s *shell) printLine(m proto.Message) error {
	data, err := protojson.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Stdout, "%s\n", data)
	return err
}

// table aligns columns. A row's colour is given by its cells.
type table struct {
	w       *tabwriter.Writer
	columns int
}

func (s *shell) table(header ...string) *table {
	t := &table{tabwriter.NewWriter(s.Stdout, 0, 8, 2, ' ', tabwriter.StripEscape), len(header)}
	t.row(header...)
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "\t", " ")
	}
	fmt.Fprintln(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

func (t *table) flush() error { return t.w.Flush() }

// style colours text on a terminal and leaves it alone elsewhere.
type style struct{ on bool }

func styles(w io.Writer) style {
	file, ok := w.(*os.File)
	return style{ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (s style) paint(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bad(text string) string  { return s.paint("1;31", text) }
func (s style) good(text string) string { return s.paint("32", text) }
func (s style) warn(text string) string { return s.paint("33", text) }
func (s style) dim(text string) string  { return s.paint("2", text) }
func (s style) bold(text string) string { return s.paint("1", text) }

// state colours the word for how something is.
func (s style) state(text string) string {
	switch text {
	case "running", "done", "succeeded", "ready":
		return s.good(text)
	case "failed", "rolled-back":
		return s.bad(text)
	case "stopped", "removing", "superseded":
		return s.dim(text)
	}
	return s.warn(text)
}

// ago tells how long ago something was, in its largest unit.
func ago(at *timestamppb.Timestamp) string {
	if at == nil || at.AsTime().Unix() <= 0 {
		return "-"
	}
	return short(time.Since(at.AsTime())) + " ago"
}

func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// size tells a number of bytes in binary units.
func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB"} {
		value /= 1024
		if value < 1024 {
			break
		}
	}
	if value < 10 {
		return fmt.Sprintf("%.1f %s", value, unit)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// shortImage leaves out what people don't read of a reference: the default registry and most of the digest.
func shortImage(reference string) string {
	reference = strings.TrimPrefix(reference, "docker.io/library/")
	reference = strings.TrimPrefix(reference, "docker.io/")
	name, digest, ok := strings.Cut(reference, "@sha256:")
	if !ok {
		return reference
	}
	return name + "@" + digest[:min(12, len(digest))]
}
