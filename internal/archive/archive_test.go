package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

var manifest = Manifest{Version: "1.2.3", Host: "box", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}

type content struct {
	Section
	data []byte
}

func keyPair(t testing.TB) (Lock, Key) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return Lock{Recipients: []string{identity.Recipient().String()}}, Key{Identities: identity.String()}
}

func write(t testing.TB, lock Lock, contents ...content) []byte {
	t.Helper()
	var file bytes.Buffer
	a, err := NewWriter(&file, lock, manifest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contents {
		w, err := a.Section(c.Section)
		if err != nil {
			t.Fatal(err)
		}
		for data := c.data; len(data) > 0; {
			n := min(len(data), 1+rand.IntN(100_000))
			if _, err := w.Write(data[:n]); err != nil {
				t.Fatal(err)
			}
			data = data[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func read(r io.Reader, key Key) (Manifest, []content, error) {
	a, err := NewReader(r, key)
	if err != nil {
		return Manifest{}, nil, err
	}
	defer a.Close()
	var all []content
	for {
		s, err := a.Next()
		if errors.Is(err, io.EOF) {
			return a.Manifest(), all, nil
		}
		if err != nil {
			return Manifest{}, nil, err
		}
		data, err := io.ReadAll(a)
		if err != nil {
			return Manifest{}, nil, err
		}
		all = append(all, content{s, data})
	}
}

func noise(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	return data
}

func some() []content {
	return []content{
		{Section{Kind: "state"}, noise(largestData*2 + 17)},
		{Section{Kind: "keys"}, []byte("secret")},
		{Section{Kind: "volume", Name: "default/production/shop/db"}, bytes.Repeat([]byte("zero "), 300_000)},
		{Section{Kind: "volume", Name: "empty"}, nil},
		{Section{Kind: "volume", Name: "exact"}, noise(largestData)},
	}
}

func TestRoundTrip(t *testing.T) {
	lock, key := keyPair(t)
	want := some()
	file := write(t, lock, want...)
	m, got, err := read(bytes.NewReader(file), key)
	if err != nil {
		t.Fatal(err)
	}
	if m != manifest || len(got) != len(want) {
		t.Fatalf("read %+v with %d sections", m, len(got))
	}
	for i := range want {
		if got[i].Section != want[i].Section || !bytes.Equal(got[i].data, want[i].data) {
			t.Errorf("section %s is %s with %d bytes", want[i], got[i], len(got[i].data))
		}
	}
	if bytes.Contains(file, []byte("secret")) || bytes.Contains(file, []byte("shop")) {
		t.Error("the archive can be read without its key")
	}
	if len(file) > largestData*4 {
		t.Errorf("the archive has %d bytes", len(file))
	}
	m, sections, err := Verify(bytes.NewReader(file), key)
	if err != nil || m != manifest {
		t.Fatal(m, err)
	}
	for i := range want {
		want[i].Size = int64(len(want[i].data))
		if sections[i] != want[i].Section {
			t.Errorf("verified %+v, want %+v", sections[i], want[i].Section)
		}
	}
}

func TestSkippingSections(t *testing.T) {
	lock, key := keyPair(t)
	a, err := NewReader(bytes.NewReader(write(t, lock, some()...)), key)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var names []string
	for {
		s, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, s.String())
		if _, err := io.ReadFull(a, make([]byte, 3)); err != nil && len(names) != 4 {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]string{"state", "keys", "volume default/production/shop/db", "volume empty", "volume exact"}, names); d != "" {
		t.Error(d)
	}
	if _, err := a.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestPassphrase(t *testing.T) {
	file := write(t, Lock{Passphrase: "correct horse", WorkFactor: 10}, content{Section{Kind: "keys"}, []byte("x")})
	_, other := keyPair(t)
	for name, c := range map[string]struct {
		key  Key
		kind maru.Kind
	}{
		"right":           {Key{Passphrase: "correct horse"}, ""},
		"right among":     {Key{Passphrase: "correct horse", Identities: other.Identities}, ""},
		"wrong":           {Key{Passphrase: "battery staple"}, maru.Unauthenticated},
		"an identity":     {other, maru.Unauthenticated},
		"none":            {Key{}, maru.Unauthenticated},
		"an odd identity": {Key{Identities: "AGE-SECRET-KEY-1"}, maru.Invalid},
	} {
		if _, _, err := read(bytes.NewReader(file), c.key); maru.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %q", name, err, c.kind)
		}
	}
	lock, _ := keyPair(t)
	for name, lock := range map[string]Lock{
		"nothing":          {},
		"both":             {Passphrase: "a", Recipients: lock.Recipients},
		"an odd recipient": {Recipients: []string{"age1"}},
	} {
		if _, err := NewWriter(io.Discard, lock, manifest); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryCutAndChangeIsFound is what a restore relies on.
func TestEveryCutAndChangeIsFound(t *testing.T) {
	lock, key := keyPair(t)
	file := write(t, lock, content{Section{Kind: "state"}, []byte("first")}, content{Section{Kind: "volume", Name: "a"}, noise(100_000)})
	if _, _, err := Verify(bytes.NewReader(file), key); err != nil {
		t.Fatal(err)
	}
	found := func(what string, file []byte) {
		_, _, err := Verify(bytes.NewReader(file), key)
		if k := maru.KindOf(err); k != maru.Invalid && k != maru.Unauthenticated {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := 0; n < len(file); n += 1 + rand.IntN(300) {
		found(fmt.Sprintf("cut at %d", n), file[:n])
	}
	for n := 0; n < len(file); n += 1 + rand.IntN(600) {
		changed := bytes.Clone(file)
		changed[n] ^= 1 << rand.IntN(8)
		found(fmt.Sprintf("a bit changed at %d", n), changed)
	}
	found("something behind it", append(bytes.Clone(file), 0))
	found("twice", append(bytes.Clone(file), file...))
	found("empty", nil)
}

// frames packs frames as a writer would, whatever they say.
func frames(t testing.TB, lock Lock, pack func(w io.Writer)) []byte {
	t.Helper()
	recipients, err := lock.recipients()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	encrypted, err := age.Encrypt(&file, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	compressed, err := zstd.NewWriter(encrypted)
	if err != nil {
		t.Fatal(err)
	}
	pack(compressed)
	if err := errors.Join(compressed.Close(), encrypted.Close()); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestFramesThatNoWriterWrites(t *testing.T) {
	lock, key := keyPair(t)
	type frame struct {
		kind    byte
		payload string
	}
	const nothing = `{"sections":0,"sha256":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}`
	const empty = `{"size":0,"sha256":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}`
	begin := frame{frameOpening, `{"format":1}`}
	for name, c := range map[string]struct {
		frames []frame
		kind   maru.Kind
	}{
		"the smallest":           {[]frame{begin, {frameEnding, nothing}}, ""},
		"a later format":         {[]frame{{frameOpening, `{"format":2}`}}, maru.Unsupported},
		"no opening":             {[]frame{{frameEnding, nothing}}, maru.Invalid},
		"no ending":              {[]frame{begin}, maru.Invalid},
		"not JSON":               {[]frame{begin, {frameStart, `{`}}, maru.Invalid},
		"no kind":                {[]frame{begin, {frameStart, `{}`}}, maru.Invalid},
		"unknown type":           {[]frame{begin, {'?', ``}}, maru.Invalid},
		"data outside":           {[]frame{begin, {frameData, `x`}}, maru.Invalid},
		"ending inside":          {[]frame{begin, {frameStart, `{"kind":"a"}`}, {frameEnding, nothing}}, maru.Invalid},
		"wrong size":             {[]frame{begin, {frameStart, `{"kind":"a"}`}, {frameClosing, strings.Replace(empty, "0", "1", 1)}}, maru.Invalid},
		"wrong digest":           {[]frame{begin, {frameStart, `{"kind":"a"}`}, {frameData, `x`}, {frameClosing, strings.Replace(empty, "0", "1", 1)}}, maru.Invalid},
		"fewer than it says":     {[]frame{begin, {frameEnding, strings.Replace(nothing, "0", "1", 1)}}, maru.Invalid},
		"more than it says":      {[]frame{begin, {frameStart, `{"kind":"a"}`}, {frameClosing, empty}, {frameEnding, nothing}}, maru.Invalid},
		"something behind":       {[]frame{begin, {frameEnding, nothing}, {frameEnding, nothing}}, maru.Invalid},
		"a frame too large":      {[]frame{begin, {frameStart, strings.Repeat(" ", largestJSON+1)}}, maru.Invalid},
		"data that is too large": {[]frame{begin, {frameStart, `{"kind":"a"}`}, {frameData, strings.Repeat(" ", largestData+1)}}, maru.Invalid},
	} {
		file := frames(t, lock, func(w io.Writer) {
			for _, f := range c.frames {
				if err := writeFrame(w, f.kind, []byte(f.payload)); err != nil {
					t.Fatal(err)
				}
			}
		})
		if _, _, err := Verify(bytes.NewReader(file), key); maru.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %q", name, err, c.kind)
		}
	}
}

func TestWriterMisuse(t *testing.T) {
	lock, key := keyPair(t)
	var file bytes.Buffer
	a, err := NewWriter(&file, lock, manifest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Section(Section{Name: "a"}); maru.KindOf(err) != maru.Invalid {
		t.Errorf("no kind: %v", err)
	}
	w, err := a.Section(Section{Kind: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Section(Section{Kind: "b"}); err == nil {
		t.Error("a section began in another")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("wrote to a closed section")
	}
	if _, err = a.Section(Section{Kind: "c"}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err == nil {
		t.Error("closed with an open section")
	}
	if _, _, err := Verify(&file, key); err == nil {
		t.Error("an archive that was not closed is whole")
	}
}

func TestFail(t *testing.T) {
	lock, key := keyPair(t)
	var file bytes.Buffer
	a, err := NewWriter(&file, lock, manifest)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("no more")
	a.Fail(cause)
	a.Fail(errors.New("later"))
	if err := a.Close(); !errors.Is(err, cause) {
		t.Errorf("closed with %v", err)
	}
	if _, _, err := Verify(&file, key); maru.KindOf(err) != maru.Invalid {
		t.Errorf("an archive that failed is whole: %v", err)
	}
}

type failing struct {
	io.Reader
	io.Writer
	left int
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, f.err
	}
	n, err := f.Reader.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left <= 0 {
		return 0, f.err
	}
	return len(p), nil
}

// TestErrorsOfTheStreamComeThrough: a full disk or a caller that left is no damage.
func TestErrorsOfTheStreamComeThrough(t *testing.T) {
	lock, key := keyPair(t)
	file := write(t, lock, content{Section{Kind: "a"}, noise(500_000)})
	cause := maru.Errorf(maru.Interrupted, "gone: %w", context.Canceled)
	for _, left := range []int{0, 50, 300, 100_000, len(file) - 1} {
		_, _, err := Verify(&failing{Reader: bytes.NewReader(file), left: left, err: cause}, key)
		if maru.KindOf(err) != maru.Interrupted || !errors.Is(err, context.Canceled) {
			t.Errorf("reading %d: %v", left, err)
		}
		a, err := NewWriter(&failing{left: left, err: cause}, lock, manifest)
		if err == nil {
			w, sectionErr := a.Section(Section{Kind: "a"})
			if sectionErr == nil {
				_, _ = w.Write(noise(500_000))
				_ = w.Close()
			}
			err = a.Close()
		}
		if maru.KindOf(err) != maru.Interrupted || !errors.Is(err, context.Canceled) {
			t.Errorf("writing %d: %v", left, err)
		}
	}
}

func TestAnySections(t *testing.T) {
	lock, key := keyPair(t)
	rapid.Check(t, func(r *rapid.T) {
		want := rapid.SliceOf(rapid.Custom(func(r *rapid.T) content {
			return content{
				Section{Kind: rapid.StringMatching(`[a-z]{1,5}`).Draw(r, "kind"), Name: rapid.String().Draw(r, "name")},
				rapid.SliceOf(rapid.Byte()).Draw(r, "data"),
			}
		})).Draw(r, "sections")
		_, got, err := read(bytes.NewReader(write(t, lock, want...)), key)
		if err != nil || len(got) != len(want) {
			r.Fatalf("read %d of %d, %v", len(got), len(want), err)
		}
		for i := range want {
			if got[i].Section != want[i].Section || !bytes.Equal(got[i].data, want[i].data) {
				r.Fatalf("section %d is %+v", i, got[i])
			}
		}
	})
}

// TestCommonProgramsReadTheOuterLayers holds what the package says of age and zstd.
func TestCommonProgramsReadTheOuterLayers(t *testing.T) {
	for _, program := range []string{"age", "zstd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the %s program is not here", program)
		}
	}
	lock, key := keyPair(t)
	folder := t.TempDir()
	for name, data := range map[string][]byte{"key": []byte(key.Identities), "backup": write(t, lock, content{Section{Kind: "keys"}, []byte("inside")})} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "age -d -i key backup | zstd -d")
	cmd.Dir = folder
	out, err := cmd.Output()
	if err != nil || !bytes.Contains(out, []byte("inside")) || out[0] != frameOpening {
		t.Errorf("%q, %v", out, err)
	}
}

// FuzzFrames feeds the reader with anything below the encryption, which nobody without the key gets past.
func FuzzFrames(f *testing.F) {
	lock, key := keyPair(f)
	var good bytes.Buffer
	for _, frame := range []struct {
		kind    byte
		payload any
	}{{frameOpening, opening{format, manifest}}, {frameStart, Section{Kind: "a"}}, {frameClosing, closing{}}, {frameEnding, ending{}}} {
		payload, err := json.Marshal(frame.payload)
		if err != nil {
			f.Fatal(err)
		}
		if err := writeFrame(&good, frame.kind, payload); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(good.Bytes())
	f.Fuzz(func(t *testing.T, plain []byte) {
		file := frames(t, lock, func(w io.Writer) {
			if _, err := w.Write(plain); err != nil {
				t.Fatal(err)
			}
		})
		_, _, err := Verify(bytes.NewReader(file), key)
		if k := maru.KindOf(err); err != nil && k != maru.Invalid && k != maru.Unsupported {
			t.Error(err)
		}
	})
}

// FuzzReader feeds the reader with anything at all.
func FuzzReader(f *testing.F) {
	lock, key := keyPair(f)
	f.Add(write(f, lock, content{Section{Kind: "a"}, []byte("x")}))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, _, err := Verify(bytes.NewReader(file), key)
		if k := maru.KindOf(err); err != nil && k != maru.Invalid && k != maru.Unsupported && k != maru.Unauthenticated {
			t.Error(err)
		}
	})
}

// FuzzCompressed feeds the decompressor.
func FuzzCompressed(f *testing.F) {
	lock, key := keyPair(f)
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoder.EncodeAll([]byte("M\x00\x00\x00\x02{}"), nil))
	recipients, err := lock.recipients()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, compressed []byte) {
		var file bytes.Buffer
		encrypted, err := age.Encrypt(&file, recipients...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := encrypted.Write(compressed); err != nil {
			t.Fatal(err)
		}
		if err := encrypted.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, err = Verify(&file, key)
		if k := maru.KindOf(err); err != nil && k != maru.Invalid && k != maru.Unsupported {
			t.Error(err)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	lock, _ := keyPair(b)
	data := noise(8 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		write(b, lock, content{Section{Kind: "a"}, data})
	}
}

func BenchmarkVerify(b *testing.B) {
	lock, key := keyPair(b)
	file := write(b, lock, content{Section{Kind: "a"}, noise(8 << 20)})
	b.SetBytes(8 << 20)
	for b.Loop() {
		if _, _, err := Verify(bytes.NewReader(file), key); err != nil {
			b.Fatal(err)
		}
	}
}
