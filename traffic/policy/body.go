package policy

import (
	"fmt"
	"net/http"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
)

// bodyLimit bounds how much a client may send, in bytes.
type bodyLimit int64

func newBodyLimit(most int64) (step, error) {
	switch {
	case most == 0:
		return nil, nil
	case most < 0:
		return nil, maru.Errorf(maru.Invalid, "a body can't have %d bytes", most)
	}
	return bodyLimit(most), nil
}

func (most bodyLimit) take(x *Exchange) *Answer {
	r := x.Request
	switch {
	case r.Length > int64(most):
		return &Answer{
			Status: http.StatusRequestEntityTooLarge, Title: "Request too large", Reason: "the body is too large",
			What: most.what(), Do: "Send less.",
		}
	case r.Length < 0 && r.Body != nil:
		r.Body = &limitedBody{RequestBody: r.Body, most: most, left: int64(most)}
	}
	return nil
}

func (most bodyLimit) what() string {
	return fmt.Sprintf("The request's body is larger than %d bytes, the most that is taken here.", int64(most))
}

// limitedBody is a body whose length nobody said. Reading more of it than is allowed is an error.
type limitedBody struct {
	message.RequestBody
	most bodyLimit
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.RequestBody.Read(p)
	if b.left -= int64(n); b.left < 0 {
		b.left = 0
		return n - 1, &http1.Error{Status: http.StatusRequestEntityTooLarge, What: b.most.what()}
	}
	return n, err
}
