package policy

import "github.com/marucloud/maru/traffic/message"

// editor changes the beginning of an answer on its way to the client.
type editor struct {
	message.Client
	edit func(*message.Response)
}

func (e *editor) Begin(r *message.Response) error {
	e.edit(r)
	return e.Client.Begin(r)
}

// onBegin has edit change the beginning of the final answer, whoever gives it. What later steps asked for
// is done before.
func (x *Exchange) onBegin(edit func(*message.Response)) {
	x.Client = &editor{x.Client, edit}
}
