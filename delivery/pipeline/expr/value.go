// Package expr is the expression language of workflows: what stands between ${{ and }}. It follows
// GitHub's documentation "Evaluate expressions in workflows and actions" and, where that is silent,
// what GitHub's runner does. It is pure: values in, values out.
//
// A value is nil, a bool, a float64, a string, an *[Array] or an *[Object].
package expr

import (
	"math"
	"strconv"
	"strings"
)

// Array is a list of values.
type Array struct {
	Items    []any
	filtered bool // it came of ".*": a property of it is that of each of its items
}

// List makes an array.
func List(items ...any) *Array { return &Array{Items: items} }

// Strings makes an array of strings.
func Strings(items []string) *Array {
	a := &Array{Items: make([]any, len(items))}
	for i, s := range items {
		a.Items[i] = s
	}
	return a
}

// Object is a mapping with its keys in order. They are found whatever their case.
type Object struct {
	keys   []string
	values map[string]any // by key in lower case
}

// NewObject makes an empty object.
func NewObject() *Object { return &Object{values: map[string]any{}} }

// Map makes an object of the pairs, in their order: a key, its value, the next key.
func Map(pairs ...any) *Object {
	o := NewObject()
	for i := 0; i+1 < len(pairs); i += 2 {
		o.Set(pairs[i].(string), pairs[i+1])
	}
	return o
}

// Set gives the key a value. A key that differs in case only is the same one.
func (o *Object) Set(key string, value any) {
	lower := strings.ToLower(key)
	if _, ok := o.values[lower]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[lower] = value
}

// Get gives the value of a key, nil when there is none. A nil object has no keys.
func (o *Object) Get(key string) any {
	if o == nil {
		return nil
	}
	return o.values[strings.ToLower(key)]
}

// Has tells whether the key is there.
func (o *Object) Has(key string) bool {
	if o == nil {
		return false
	}
	_, ok := o.values[strings.ToLower(key)]
	return ok
}

// Keys are the keys in order, as they were first written.
func (o *Object) Keys() []string {
	if o == nil {
		return nil
	}
	return o.keys
}

// Len is how many keys there are.
func (o *Object) Len() int { return len(o.Keys()) }

// Clone gives a copy whose keys can be set without changing o. The values are shared.
func (o *Object) Clone() *Object {
	c := NewObject()
	for _, k := range o.Keys() {
		c.Set(k, o.Get(k))
	}
	return c
}

// Truthy tells what a condition makes of a value: false, 0, NaN, "" and null are false.
func Truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0 && !math.IsNaN(v)
	case string:
		return v != ""
	}
	return true
}

// String gives the text that a value becomes inside a string.
func String(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return formatNumber(v)
	case string:
		return v
	case *Array:
		return "Array"
	case *Object:
		return "Object"
	}
	return ""
}

// formatNumber writes a number with up to 15 digits.
func formatNumber(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == 0:
		return "0"
	}
	if a := math.Abs(f); a >= 1e15 || a < 1e-5 {
		text := strconv.FormatFloat(f, 'E', 14, 64)
		mantissa, exponent, _ := strings.Cut(text, "E")
		if strings.Contains(mantissa, ".") {
			mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
		}
		return mantissa + "E" + exponent
	}
	short, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 15, 64), 64)
	return strconv.FormatFloat(short, 'f', -1, 64)
}

// Number gives the number that a value is taken for where one is compared with another kind of
// value: null is 0, true is 1, a text is read, and what can't be is NaN.
func Number(v any) float64 {
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		return v
	case string:
		return parseNumber(v)
	}
	return math.NaN()
}

func parseNumber(s string) float64 {
	s = strings.TrimSpace(s)
	switch s {
	case "":
		return 0
	case "Infinity", "+Infinity":
		return math.Inf(1)
	case "-Infinity":
		return math.Inf(-1)
	}
	for prefix, base := range map[string]int{"0x": 16, "0o": 8} {
		if digits, ok := strings.CutPrefix(s, prefix); ok {
			n, err := strconv.ParseUint(digits, base, 32)
			if err != nil || strings.Contains(digits, "_") {
				return math.NaN()
			}
			return float64(int32(uint32(n))) // as GitHub reads it: 32 bits with a sign
		}
	}
	for _, r := range s {
		if (r < '0' || r > '9') && !strings.ContainsRune("+-.eE", r) {
			return math.NaN()
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return math.NaN()
	}
	return f
}

func isPrimitive(v any) bool {
	switch v.(type) {
	case *Array, *Object:
		return false
	}
	return true
}

// equal compares loosely: texts without regard to case, different kinds as numbers, arrays and
// objects only with themselves.
func equal(a, b any) bool {
	switch x := a.(type) {
	case *Array:
		y, ok := b.(*Array)
		return ok && x == y
	case *Object:
		y, ok := b.(*Object)
		return ok && x == y
	}
	if !isPrimitive(b) {
		return false
	}
	if a == nil && b == nil {
		return true
	}
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return foldCase(x) == foldCase(y)
		}
	}
	if x, ok := a.(bool); ok {
		if y, ok := b.(bool); ok {
			return x == y
		}
	}
	return Number(a) == Number(b)
}

// less tells whether a < b. What can't be ordered is neither less nor greater.
func less(a, b any) bool {
	if !isPrimitive(a) || !isPrimitive(b) {
		return false
	}
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return foldCase(x) < foldCase(y)
		}
	}
	return Number(a) < Number(b)
}

func foldCase(s string) string { return strings.ToUpper(s) }
