package registry

import (
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

func FuzzManifest(f *testing.F) {
	const part = `{"mediaType":"x","digest":"sha256:0123456789012345678901234567890123456789012345678901234567890123","size":1}`
	f.Add([]byte(`{"schemaVersion":2,"config":`+part+`,"layers":[`+part+`],"subject":`+part+`}`), ociImage)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[`+part+`]}`), ociIndex)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[null]}`), "")
	f.Fuzz(func(t *testing.T, data []byte, mediaType string) {
		d, err := parseManifest(data, mediaType)
		if err != nil {
			if maru.KindOf(err) != maru.Invalid {
				t.Errorf("%v is of kind %s", err, maru.KindOf(err))
			}
			return
		}
		if mediaType != "" && d.MediaType != mediaType || d.SchemaVersion != 2 {
			t.Errorf("%+v", d)
		}
		for _, part := range d.parts() {
			if !digestForm.MatchString(part.Digest) || part.Size < 0 {
				t.Errorf("takes %+v", part)
			}
		}
	})
}

func FuzzName(f *testing.F) {
	for _, name := range []string{"shop", "shop/web", "team/shop/web", "default/production/shop/web", "a//b", "../x", "a.-b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseName(text)
		if err != nil {
			return
		}
		if n.written != text || strings.Contains(n.key, "..") || strings.Count(n.key, "/") > 2 || (n.key == "") != n.releases() {
			t.Errorf("%q is %+v", text, n)
		}
		if n.releases() {
			return
		}
		if again, err := parseName(shortName(n.key)); err != nil || again.key != n.key || again.scope != n.scope {
			t.Errorf("%q is %+v, and by its short name %+v, %v", text, n, again, err)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, text := range []string{"", "0-0", "5-9", "bytes 5-9/10", "-1-5", "9223372036854775807-9223372036854775807", "+1-+2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		begin, length, ok, err := contentRange(text)
		if ok && (err != nil || begin < 0 || length < 1 || begin+length < begin) || ok == (text == "") && err == nil {
			t.Errorf("%q: %d, %d, %v, %v", text, begin, length, ok, err)
		}
	})
}
