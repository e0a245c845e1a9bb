package workflow

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options are what container.options says, of those of `docker create` that are done here.
type Options struct {
	CPUs              float64
	Memory            int64 // bytes
	ShmSize           int64 // bytes
	User              string
	Hostname          string
	Entrypoint        string
	Env               []string // NAME=VALUE
	Tmpfs             []string // paths
	HealthCommand     string
	HealthInterval    time.Duration
	HealthTimeout     time.Duration
	HealthStartPeriod time.Duration
	HealthRetries     int
	NoHealth          bool
}

// option reads one option's value.
type option struct {
	names []string
	flag  bool // has no value
	read  func(o *Options, value string) error
}

func textOption(at func(*Options) *string, names ...string) option {
	return option{names: names, read: func(o *Options, v string) error { *at(o) = v; return nil }}
}

func timeOption(at func(*Options) *time.Duration, name string) option {
	return option{names: []string{name}, read: func(o *Options, v string) (err error) {
		*at(o), err = time.ParseDuration(v)
		return err
	}}
}

func sizeOption(at func(*Options) *int64, names ...string) option {
	return option{names: names, read: func(o *Options, v string) (err error) {
		*at(o), err = parseSize(v)
		return err
	}}
}

var options = []option{
	{names: []string{"--cpus"}, read: func(o *Options, v string) (err error) {
		o.CPUs, err = strconv.ParseFloat(v, 64)
		return err
	}},
	sizeOption(func(o *Options) *int64 { return &o.Memory }, "--memory", "-m"),
	sizeOption(func(o *Options) *int64 { return &o.ShmSize }, "--shm-size"),
	textOption(func(o *Options) *string { return &o.User }, "--user", "-u"),
	textOption(func(o *Options) *string { return &o.Hostname }, "--hostname", "-h"),
	textOption(func(o *Options) *string { return &o.Entrypoint }, "--entrypoint"),
	{names: []string{"--env", "-e"}, read: func(o *Options, v string) error { o.Env = append(o.Env, v); return nil }},
	{names: []string{"--tmpfs"}, read: func(o *Options, v string) error {
		path, _, _ := strings.Cut(v, ":")
		o.Tmpfs = append(o.Tmpfs, path)
		return nil
	}},
	textOption(func(o *Options) *string { return &o.HealthCommand }, "--health-cmd"),
	timeOption(func(o *Options) *time.Duration { return &o.HealthInterval }, "--health-interval"),
	timeOption(func(o *Options) *time.Duration { return &o.HealthTimeout }, "--health-timeout"),
	timeOption(func(o *Options) *time.Duration { return &o.HealthStartPeriod }, "--health-start-period"),
	{names: []string{"--health-retries"}, read: func(o *Options, v string) (err error) {
		o.HealthRetries, err = strconv.Atoi(v)
		return err
	}},
	{names: []string{"--no-healthcheck"}, flag: true, read: func(o *Options, _ string) error { o.NoHealth = true; return nil }},
	{names: []string{"--init", "--rm"}, flag: true, read: func(*Options, string) error { return nil }},
	{names: []string{"--name", "--label", "-l"}, read: func(*Options, string) error { return nil }},
}

func optionNames() string {
	var names []string
	for _, o := range options {
		names = append(names, o.names[0])
	}
	return strings.Join(names, ", ")
}

// ParseOptions reads container.options.
func ParseOptions(text string) (Options, error) {
	var all Options
	words, err := SplitWords(text)
	if err != nil {
		return all, err
	}
	for i := 0; i < len(words); i++ {
		name, value, given := strings.Cut(words[i], "=")
		if !strings.HasPrefix(name, "-") {
			return all, fmt.Errorf("%q is no option", words[i])
		}
		at := slices.IndexFunc(options, func(o option) bool { return slices.Contains(o.names, name) })
		if at < 0 {
			return all, fmt.Errorf("the option %s is not done here", name)
		}
		o := options[at]
		if !given && !o.flag {
			if i++; i == len(words) {
				return all, fmt.Errorf("the option %s has no value", name)
			}
			value = words[i]
		}
		if err := o.read(&all, value); err != nil {
			return all, fmt.Errorf("the option %s has a value that can't be read: %w", name, err)
		}
	}
	return all, nil
}

// parseSize reads a number of bytes with an optional unit of 1024: b, k, m, g.
func parseSize(text string) (int64, error) {
	lower := strings.TrimSuffix(strings.ToLower(text), "b")
	factor := int64(1)
	for i, unit := range []string{"k", "m", "g"} {
		if digits, ok := strings.CutSuffix(lower, unit); ok {
			lower, factor = digits, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseFloat(lower, 64)
	if err != nil || n < 0 || n > 1<<50 {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return int64(n * float64(factor)), nil
}

// SplitWords splits as a shell does, with quotes and \, and nothing else of it.
func SplitWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	quote, in := byte(0), false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			word.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\':
			if i++; i < len(text) {
				word.WriteByte(text[i])
				in = true
			}
		case c == '\'' || c == '"':
			quote, in = c, true
		case strings.IndexByte(" \t\r\n", c) >= 0:
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}
