package cli

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
)

// logRetry is how long to wait before asking again when the server went away while following.
const logRetry = 200 * time.Millisecond

type logOptions struct {
	follow, timestamps, bare, everything  bool
	since, until, grep, instance, release string
	tail                                  int
}

func (s *shell) logsCommand() *cobra.Command {
	var o logOptions
	c := &cobra.Command{Use: "logs [SERVICE…]", Short: "Show what services wrote, and with -f what they write",
		Long: `Logs shows the lines that instances wrote to standard output and error, merged by time, also of instances
that are gone. With -f it goes on with what they write, through restarts of anything.`,
		Example: `  maru logs web
  maru logs --follow --since 10m web worker
  maru logs --grep 'error|panic' --since 1h
  maru logs --instance web-3-x7k2p -n 50`,
		ValidArgsFunction: s.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			request := &maruv1.LogsRequest{Scope: s.place(), Services: args, Release: o.release, Instance: o.instance, Pattern: o.grep,
				Tail: int32(o.tail), Follow: o.follow}
			if !o.everything {
				if request.Scope, err = s.scope(c.Context()); err != nil {
					return err
				}
			}
			if request.Since, err = moment(o.since); err != nil {
				return err
			}
			if request.Until, err = moment(o.until); err != nil {
				return err
			}
			if !c.Flags().Changed("tail") && (request.Since != nil || request.Pattern != "") {
				request.Tail = 0
			}
			return s.streamLogs(c.Context(), connected, request, o)
		}}
	flags := c.Flags()
	flags.BoolVar(&o.follow, "follow", false, "go on with what is written")
	flags.StringVar(&o.since, "since", "", "from this moment on: a time, or how long ago (10m)")
	flags.StringVar(&o.until, "until", "", "up to this moment")
	flags.StringVar(&o.grep, "grep", "", "only lines that match this regular expression (RE2)")
	flags.StringVar(&o.instance, "instance", "", "only of this instance; the beginning of its name is enough")
	flags.StringVar(&o.release, "release", "", "only of this release")
	flags.IntVarP(&o.tail, "tail", "n", 200, "at most this many past lines; 0: all; -1: none")
	flags.BoolVarP(&o.timestamps, "timestamps", "t", false, "show when each line was written")
	flags.BoolVar(&o.bare, "bare", false, "only the lines, without the instance's name")
	flags.BoolVarP(&o.everything, "all", "a", false, "of all apps of the environment")
	return c
}

// streamLogs prints entries. When the server goes away while following it asks again from the last
// entry of each instance on, so that no line is lost or shown twice.
func (s *shell) streamLogs(ctx context.Context, connected *client.Client, request *maruv1.LogsRequest, o logOptions) error {
	printer := &logPrinter{shell: s, options: o, style: styles(s.Stdout), started: map[string]bool{}}
	return followLogs(ctx, connected, request, o.follow, printer.print)
}

// followLogs does what streamLogs does, with the entries going to show.
func followLogs(ctx context.Context, connected *client.Client, request *maruv1.LogsRequest, follow bool, show func(*maruv1.LogEntry) error) error {
	request.After = map[string]string{}
	var first timestamp // of the first entry that was shown
	for {
		stream, err := connected.Logs.Logs(ctx, request)
		if err == nil {
			for stream.Receive() {
				for _, e := range stream.Msg().Entries {
					if first == nil {
						first = e.Time
					}
					if err := show(e); err != nil {
						return err
					}
					request.After[e.Instance] = e.Cursor
				}
			}
			err = stream.Err()
			_ = stream.Close()
		}
		if ctx.Err() != nil || err == nil && !follow {
			return nil
		}
		if err != nil && (!follow || maru.KindOf(err) != maru.Unavailable && maru.KindOf(err) != maru.Interrupted) {
			return err
		}
		if len(request.After) > 0 && request.Tail != 0 {
			// Of instances that After does not name nothing was shown: they began meanwhile, or what they had
			// was behind the past lines that were asked for. Where all lines were, theirs are still to come.
			request.Tail, request.Since = 0, first
		}
		select {
		case <-time.After(logRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

type logPrinter struct {
	*shell
	options logOptions
	style   style
	started map[string]bool // instances whose present line is not complete
}

func (p *logPrinter) print(e *maruv1.LogEntry) error {
	if p.output == "json" {
		return p.printLine(e)
	}
	var b strings.Builder
	if !p.started[e.Instance] {
		if p.options.timestamps {
			b.WriteString(p.style.dim(e.Time.AsTime().Local().Format("2006-01-02T15:04:05.000000")) + " ")
		}
		if !p.options.bare {
			b.WriteString(p.colour(e.Instance) + p.style.dim(" | "))
		}
	}
	b.Write(e.Line)
	p.started[e.Instance] = e.Partial
	if !e.Partial {
		b.WriteByte('\n')
	}
	_, err := fmt.Fprint(p.Stdout, b.String())
	return err
}

// colour gives each instance one of six colours.
func (p *logPrinter) colour(instance string) string {
	h := fnv.New32a()
	h.Write([]byte(instance))
	return p.style.paint(fmt.Sprint(31+h.Sum32()%6), instance)
}
