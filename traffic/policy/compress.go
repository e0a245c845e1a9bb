package policy

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// compress has answers compressed that are worth it, for clients that say they understand it.
type compress struct {
	least int64
	types []string
}

// leastCompressed is the shortest answer that is compressed where nothing else is said, in bytes: shorter
// ones fit into a packet as they are.
const leastCompressed = 1024

func newCompress(c *maru.Compress) (step, error) {
	if c == nil {
		return nil, nil
	}
	s := compress{least: c.Min, types: c.Types}
	if s.least == 0 {
		s.least = leastCompressed
	}
	return s, nil
}

func (s compress) take(x *Exchange) *Answer {
	c := &compressor{Client: x.Client, rule: s, request: x.Request}
	x.Client = c
	x.after = append(x.after, c.release)
	return nil
}

// encoder is one way to compress.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// encodings are those that there are, the best first. Encoders are large, and used again.
var encodings = []struct {
	name string
	pool *sync.Pool
}{
	{"zstd", &sync.Pool{New: func() any {
		// RFC 9659: clients need not keep more than 8 MiB. A smaller window costs less memory here.
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("policy: " + err.Error()) // the options are fixed
		}
		return encoder(e)
	}}},
	{"br", &sync.Pool{New: func() any { return encoder(brotli.NewWriterLevel(nil, 4)) }}},
	{"gzip", &sync.Pool{New: func() any {
		e, err := gzip.NewWriterLevel(nil, 5)
		if err != nil {
			panic("policy: " + err.Error())
		}
		return encoder(e)
	}}},
}

// compressor compresses an answer on its way to the client.
type compressor struct {
	message.Client
	rule    compress
	request *message.Request
	pool    *sync.Pool
	enc     encoder // nil: the answer goes as it is
	buf     bytes.Buffer
}

func (c *compressor) Begin(r *message.Response) error {
	if !c.rule.fits(r) {
		return c.Client.Begin(r)
	}
	addVary(&r.Header, "Accept-Encoding")
	i := negotiate(c.request.Header)
	if i < 0 || r.Length >= 0 && r.Length < c.rule.least {
		return c.Client.Begin(r)
	}
	h := &r.Header
	for _, name := range []string{"Content-Encoding", "Accept-Ranges", "Content-MD5", "Digest", "Content-Digest", "Repr-Digest"} {
		h.Del(name) // they are of the bytes as they were
	}
	h.Add("Content-Encoding", encodings[i].name)
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		h.Set("ETag", "W/"+tag) // the bytes are others, the meaning is the same
	}
	if c.request.Method != http.MethodHead {
		c.pool = encodings[i].pool
		c.enc = c.pool.Get().(encoder) //nolint:forcetypeassert // its New gives nothing else
		c.enc.Reset(&c.buf)
	}
	begun := *r
	begun.Length = -1
	return c.Client.Begin(&begun)
}

func (c *compressor) Write(p []byte) error {
	if c.enc == nil {
		return c.Client.Write(p)
	}
	if _, err := c.enc.Write(p); err != nil {
		return err
	}
	return c.drain()
}

func (c *compressor) Flush() error {
	if c.enc != nil {
		if err := c.enc.Flush(); err != nil {
			return err
		}
		if err := c.drain(); err != nil {
			return err
		}
	}
	return c.Client.Flush()
}

func (c *compressor) End(trailer message.Header) error {
	if c.enc != nil {
		if err := c.enc.Close(); err != nil {
			return err
		}
		if err := c.drain(); err != nil {
			return err
		}
	}
	return c.Client.End(trailer)
}

func (c *compressor) drain() error {
	if c.buf.Len() == 0 {
		return nil
	}
	err := c.Client.Write(c.buf.Bytes())
	c.buf.Reset()
	return err
}

func (c *compressor) release() {
	if c.enc != nil {
		c.enc.Reset(io.Discard)
		c.pool.Put(c.enc)
		c.enc = nil
	}
}

// fits tells whether an answer is of a kind that is compressed.
func (s compress) fits(r *message.Response) bool {
	encoded := r.Header.Get("Content-Encoding")
	switch {
	case r.Status < 200, r.Status == http.StatusNoContent, r.Status == http.StatusPartialContent, r.Status == http.StatusNotModified, r.Length == 0:
		return false
	case encoded != "" && !message.Equal(encoded, "identity"), r.Header.HasToken("Cache-Control", "no-transform"), r.Header.Has("Content-Range"):
		return false
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && (isText(kind) || slices.Contains(s.types, kind))
}

// isText tells whether a media type is of what compresses well.
func isText(kind string) bool {
	switch kind {
	case "application/json", "application/javascript", "application/xml", "application/wasm", "application/manifest+json",
		"application/x-ndjson", "application/yaml", "application/rtf", "image/svg+xml", "image/bmp", "font/ttf", "font/otf":
		return true
	}
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml")
}

// negotiate chooses the encoding that the client likes best (RFC 9110, 12.5.3), of those alike the best
// one; -1 for none.
func negotiate(h message.Header) int {
	weights := map[string]float64{}
	for line := range h.Values("Accept-Encoding") {
		for item := range strings.SplitSeq(line, ",") {
			name, q := weighted(item)
			weights[name] = q
		}
	}
	best, most := -1, 0.0
	for i, e := range encodings {
		q, named := weights[e.name]
		if !named {
			q = weights["*"]
		}
		if q > most {
			best, most = i, q
		}
	}
	if identity, named := weights["identity"]; named && identity > most {
		return -1
	}
	return best
}

// weighted reads an item of a list with its q value; a malformed one is not acceptable.
func weighted(item string) (name string, q float64) {
	name, params, _ := strings.Cut(item, ";")
	name, q = strings.ToLower(message.Trim(name)), 1
	for param := range strings.SplitSeq(params, ";") {
		key, value, ok := strings.Cut(param, "=")
		if !ok || !message.Equal(message.Trim(key), "q") {
			continue
		}
		parsed, err := strconv.ParseFloat(message.Trim(value), 64)
		if err != nil || parsed < 0 || parsed > 1 {
			return name, 0
		}
		q = parsed
	}
	return name, q
}
