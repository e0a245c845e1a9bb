package policy

import (
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// edits changes the headers of request and answer.
type edits struct{ request, response []message.Edit }

func newEdits(request, response *maru.HeaderEdit) (step, error) {
	e := edits{editsOf(request), editsOf(response)}
	if len(e.request)+len(e.response) == 0 {
		return nil, nil
	}
	for _, one := range slices.Concat(e.request, e.response) {
		if message.HopByHop(one.Name) || message.Equal(one.Name, "Content-Length") {
			return nil, maru.Errorf(maru.Invalid, "the header %s is the connection's own", one.Name)
		}
	}
	return e, nil
}

func editsOf(e *maru.HeaderEdit) []message.Edit {
	if e == nil {
		return nil
	}
	var all []message.Edit
	for _, name := range e.Remove {
		all = append(all, message.Edit{Op: message.Remove, Name: name})
	}
	for op, fields := range map[message.Op]map[string]string{message.Set: e.Set, message.Add: e.Add} {
		for name, value := range fields {
			all = append(all, message.Edit{Op: op, Name: name, Value: value})
		}
	}
	slices.SortStableFunc(all, func(a, b message.Edit) int {
		if a.Op != b.Op {
			return int(a.Op) - int(b.Op)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

func (e edits) take(x *Exchange) *Answer {
	x.Out.Edits = append(x.Out.Edits, e.request...)
	if len(e.response) > 0 {
		x.onBegin(func(r *message.Response) {
			for _, one := range e.response {
				one.Apply(&r.Header)
			}
		})
	}
	return nil
}
