package expr

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

func (e *evaluation) function(name string, args []any) (any, error) {
	switch name {
	case "contains":
		return contains(args[0], args[1]), nil
	case "startswith":
		return isPrimitive(args[0]) && isPrimitive(args[1]) &&
			strings.HasPrefix(foldCase(String(args[0])), foldCase(String(args[1]))), nil
	case "endswith":
		return isPrimitive(args[0]) && isPrimitive(args[1]) &&
			strings.HasSuffix(foldCase(String(args[0])), foldCase(String(args[1]))), nil
	case "format":
		return e.format(String(args[0]), args[1:])
	case "join":
		return e.join(args)
	case "tojson":
		return ToJSON(args[0])
	case "fromjson":
		return FromJSON(String(args[0]))
	case "hashfiles":
		return e.hashFiles(args)
	case "success":
		return e.env.Status.Success, nil
	case "failure":
		return e.env.Status.Failure, nil
	case "cancelled":
		return e.env.Status.Cancelled, nil
	case "always":
		return true, nil
	}
	return nil, errors.New("there is no such function")
}

func contains(search, item any) bool {
	switch s := search.(type) {
	case *Array:
		for _, v := range s.Items {
			if equal(v, item) {
				return true
			}
		}
		return false
	case *Object:
		return false
	}
	return isPrimitive(item) && strings.Contains(foldCase(String(search)), foldCase(String(item)))
}

// format replaces {0}, {1}, …; {{ and }} stand for the braces themselves.
func (e *evaluation) format(pattern string, args []any) (string, error) {
	var out strings.Builder
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case c == '{' && i+1 < len(pattern) && pattern[i+1] == '{', c == '}' && i+1 < len(pattern) && pattern[i+1] == '}':
			out.WriteByte(c)
			i++
		case c == '}':
			return "", fmt.Errorf("the pattern %q has a } of its own; write }}", pattern)
		case c == '{':
			number, _, ok := strings.Cut(pattern[i+1:], "}")
			n, err := strconv.Atoi(number)
			if !ok || err != nil || n < 0 {
				return "", fmt.Errorf("the pattern %q has a { that no number and } follow; write {{", pattern)
			}
			if n >= len(args) {
				return "", fmt.Errorf("the pattern %q asks for argument %d, and there are %d", pattern, n, len(args))
			}
			out.WriteString(String(args[n]))
			i += len(number) + 1
		default:
			out.WriteByte(c)
		}
		if out.Len() > e.left {
			return "", errTooLarge
		}
	}
	return out.String(), nil
}

func (e *evaluation) join(args []any) (string, error) {
	separator := ","
	if len(args) > 1 && isPrimitive(args[1]) {
		separator = String(args[1])
	}
	list, ok := args[0].(*Array)
	if !ok {
		if isPrimitive(args[0]) {
			return String(args[0]), nil
		}
		return "", nil
	}
	var out strings.Builder
	for i, v := range list.Items {
		if i > 0 {
			out.WriteString(separator)
		}
		if isPrimitive(v) {
			out.WriteString(String(v))
		}
		if out.Len() > e.left {
			return "", errTooLarge
		}
	}
	return out.String(), nil
}

func (e *evaluation) hashFiles(args []any) (string, error) {
	if e.env.HashFiles == nil {
		return "", errors.New("is available in steps only, where there are files")
	}
	patterns := make([]string, len(args))
	for i, a := range args {
		patterns[i] = String(a)
	}
	return e.env.HashFiles(patterns)
}
