package expr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// maxDepth bounds how deep JSON may be nested.
const maxDepth = 100

// ToJSON writes a value as JSON, indented by two spaces.
func ToJSON(v any) (string, error) {
	var out bytes.Buffer
	if err := writeJSON(&out, v, 0); err != nil {
		return "", err
	}
	return out.String(), nil
}

func writeJSON(out *bytes.Buffer, v any, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("the value is nested more than %d deep", maxDepth)
	}
	if out.Len() > maxSize {
		return errTooLarge
	}
	indent := func(n int) { out.WriteString("\n" + strings.Repeat("  ", n)) }
	switch v := v.(type) {
	case nil:
		out.WriteString("null")
	case string:
		writeString(out, v)
	case *Array:
		if len(v.Items) == 0 {
			out.WriteString("[]")
			return nil
		}
		out.WriteByte('[')
		for i, item := range v.Items {
			if i > 0 {
				out.WriteByte(',')
			}
			indent(depth + 1)
			if err := writeJSON(out, item, depth+1); err != nil {
				return err
			}
		}
		indent(depth)
		out.WriteByte(']')
	case *Object:
		if v.Len() == 0 {
			out.WriteString("{}")
			return nil
		}
		out.WriteByte('{')
		for i, key := range v.Keys() {
			if i > 0 {
				out.WriteByte(',')
			}
			indent(depth + 1)
			writeString(out, key)
			out.WriteString(": ")
			if err := writeJSON(out, v.Get(key), depth+1); err != nil {
				return err
			}
		}
		indent(depth)
		out.WriteByte('}')
	default:
		out.WriteString(String(v))
	}
	return nil
}

func writeString(out *bytes.Buffer, s string) {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string can't fail to encode
	out.Truncate(out.Len() - 1)
}

// FromJSON reads a value. Keys keep their order.
func FromJSON(text string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	v, err := readJSON(dec, 0)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the value")
		}
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the text ends too soon")
		}
		return nil, fmt.Errorf("%q is not JSON: %w", abbreviate(text), err)
	}
	return v, nil
}

func abbreviate(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}

func readJSON(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '[' {
			return readArray(dec, depth)
		}
		return readObject(dec, depth)
	case float64:
		if math.IsInf(token, 0) {
			return nil, errors.New("a number is too large")
		}
		return token, nil
	}
	return token, nil // nil, bool or string
}

func readArray(dec *json.Decoder, depth int) (any, error) {
	a := &Array{}
	for dec.More() {
		v, err := readJSON(dec, depth+1)
		if err != nil {
			return nil, err
		}
		a.Items = append(a.Items, v)
	}
	_, err := dec.Token()
	return a, err
}

func readObject(dec *json.Decoder, depth int) (any, error) {
	o := NewObject()
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := readJSON(dec, depth+1)
		if err != nil {
			return nil, err
		}
		o.Set(key.(string), v) // the decoder gives strings for keys
	}
	_, err := dec.Token()
	return o, err
}
