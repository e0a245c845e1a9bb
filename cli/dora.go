package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func (s *shell) doraCommand() *cobra.Command {
	var since, until, by, zone string
	var everything bool
	c := &cobra.Command{Use: "dora", Short: "Show the four DORA figures: how often, how fast and how well it is deployed", Args: cobra.NoArgs,
		Long: `Dora shows the figures that the DORA reports compare teams by: how often is deployed, how long a commit takes
until it serves, how many deployments fail, and how long it takes to make up for those. docs/dora.md says how each
is counted. Environments of previews are left out, unless --env names one.`,
		Example: "  maru dora\n  maru dora --since 90d --by week\n  maru dora --all -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			request := &maruv1.DoraRequest{Scope: &maruv1.Scope{Project: s.project, Environment: s.environment, App: s.app}, By: by, TimeZone: zone}
			if !everything {
				if request.Scope, err = s.scope(c.Context()); err != nil {
					return err
				}
			}
			if request.Since, err = moment(since); err != nil {
				return err
			}
			if request.Until, err = moment(until); err != nil {
				return err
			}
			response, err := connected.Delivery.Dora(c.Context(), request)
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(response)
			}
			if len(response.Apps) == 0 {
				fmt.Fprintln(s.Stdout, "nothing was deployed there yet")
				return nil
			}
			for i, d := range response.Apps {
				if i > 0 {
					fmt.Fprintln(s.Stdout)
				}
				if err := s.showDora(d); err != nil {
					return err
				}
			}
			return nil
		}}
	c.Flags().StringVar(&since, "since", "30d", "from this moment on: a time, or how long ago (12h, 90d, 8w)")
	c.Flags().StringVar(&until, "until", "", "until this moment; default: now")
	c.Flags().StringVar(&by, "by", "", "show each day or week too: day, week")
	c.Flags().StringVar(&zone, "time-zone", "UTC", "whose days those are, such as Europe/Berlin")
	c.Flags().BoolVarP(&everything, "all", "a", false, "of all apps and environments")
	_ = c.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"day", "week"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (s *shell) showDora(d *maruv1.Dora) error {
	style, f := styles(s.Stdout), d.Total
	fmt.Fprintf(s.Stdout, "%s in %s, %s to %s\n", style.bold(d.Scope.App), d.Scope.Environment, day(d.Since), day(d.Until))
	if d.Incomplete {
		fmt.Fprintf(s.Stdout, "the history reaches back to %s: earlier deployments are not counted\n", day(d.Since))
	}
	t := s.table("FIGURE", "VALUE", "P90", "BAND", "OF")
	t.row("deployment frequency", fmt.Sprintf("%.2f a day", f.PerDay), "-", orDash(d.Bands.Frequency), fmt.Sprintf("%d deployments", f.Deployments))
	t.row("lead time for changes", span(f.LeadTime, f.LeadTime.GetMedian()), span(f.LeadTime, f.LeadTime.GetP90()), orDash(d.Bands.LeadTime), fmt.Sprintf("%d commits", f.LeadTime.GetCount()))
	t.row("change failure rate", fmt.Sprintf("%.1f%%", 100*f.FailureRate), "-", orDash(d.Bands.FailureRate), fmt.Sprintf("%d failed", f.Failed))
	t.row("time to restore", span(f.Restore, f.Restore.GetMedian()), span(f.Restore, f.Restore.GetP90()), orDash(d.Bands.Restore), fmt.Sprintf("%d restored", f.Restore.GetCount()))
	if err := t.flush(); err != nil {
		return err
	}
	for _, note := range []struct {
		n    int32
		text string
	}{
		{f.WithoutCommit, "of the deployments are not from Git: they have no lead time"},
		{f.Undated, "commits have no lead time: they are dated later than they served, or too many came at once"},
		{f.Stopped, "rollouts failed before they reached anybody: they count as none"},
		{f.Open, "of the failed are not made up for yet"},
	} {
		if note.n > 0 {
			fmt.Fprintf(s.Stdout, "%d %s\n", note.n, note.text)
		}
	}
	if len(d.Periods) == 0 {
		return nil
	}
	fmt.Fprintln(s.Stdout)
	t = s.table("FROM", "DEPLOYMENTS", "LEAD TIME", "P90", "FAILED", "RATE", "RESTORE")
	for _, p := range d.Periods {
		f := p.Figures
		t.row(p.Start.AsTime().UTC().Format("2006-01-02 15:04Z"), fmt.Sprint(f.Deployments), span(f.LeadTime, f.LeadTime.GetMedian()), span(f.LeadTime, f.LeadTime.GetP90()),
			fmt.Sprint(f.Failed), fmt.Sprintf("%.0f%%", 100*f.FailureRate), span(f.Restore, f.Restore.GetMedian()))
	}
	return t.flush()
}

// span writes a duration of a spread with two units, such as 3d4h; nothing when it is of nothing.
func span(of *maruv1.Spread, d *durationpb.Duration) string {
	if of.GetCount() == 0 {
		return "-"
	}
	v := d.AsDuration().Round(time.Second)
	days := v / (24 * time.Hour)
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, v%(24*time.Hour)/time.Hour)
	case v >= time.Hour:
		return fmt.Sprintf("%dh%dm", v/time.Hour, v%time.Hour/time.Minute)
	}
	return v.String()
}
