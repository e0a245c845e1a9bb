package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

const (
	testImage = "application/vnd.oci.image.manifest.v1+json"
	testIndex = "application/vnd.oci.image.index.v1+json"
)

func TestUnkept(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	old, fresh := now.Add(-48*time.Hour), now.Add(-time.Hour)
	blob := func(digest string, pushed time.Time) maru.Content {
		return maru.Content{Repository: "default/shop", Digest: digest, Pushed: pushed}
	}
	manifest := func(digest string, pushed time.Time, tags string, parts ...string) maru.Content {
		c := blob(digest, pushed)
		c.MediaType, c.References, c.Tags = testImage, parts, strings.Fields(tags)
		return c
	}
	about := func(c maru.Content, subject string) maru.Content {
		c.Subject = subject
		return c
	}
	index := func(c maru.Content) maru.Content {
		c.MediaType = testIndex
		return c
	}
	elsewhere := func(c maru.Content) maru.Content {
		c.Repository = "default/zoo"
		return c
	}
	for _, c := range []struct {
		name     string
		contents []maru.Content
		tags     int
		want     string
	}{
		{"nothing", nil, 0, ""},
		{"tagged stays with its parts", []maru.Content{blob("layer", old), manifest("image", old, "1", "layer")}, 0, ""},
		{"untagged goes, before its parts", []maru.Content{blob("layer", old), manifest("image", old, "", "layer")}, 0, "image layer"},
		{"what was pushed lately stays with its parts", []maru.Content{blob("layer", old), manifest("image", fresh, "", "layer")}, 0, ""},
		{"a blob whose manifest is still to come stays", []maru.Content{blob("layer", fresh)}, 0, ""},
		{"a blob whose manifest never came goes", []maru.Content{blob("layer", old)}, 0, "layer"},
		{"parts that others have stay", []maru.Content{blob("layer", old), manifest("a", old, "", "layer"), manifest("b", old, "1", "layer")}, 0, "a"},
		{"images of an index stay", []maru.Content{blob("layer", old), manifest("arm", old, "", "layer"), index(manifest("index", old, "1", "arm"))}, 0, ""},
		{"an index goes before its images", []maru.Content{blob("layer", old), manifest("arm", old, "", "layer"), index(manifest("index", old, "", "arm"))}, 0, "index arm layer"},
		{"signatures stay with what they are about", []maru.Content{manifest("image", old, "1"), about(manifest("signature", old, "", "config"), "image"), blob("config", old), about(manifest("of-the-signature", old, ""), "signature")}, 0, ""},
		{"signatures go with what they are about", []maru.Content{manifest("image", old, ""), about(manifest("signature", old, ""), "image")}, 0, "image signature"},
		{"signatures of what is not there go", []maru.Content{about(manifest("signature", old, ""), "image")}, 0, "signature"},
		{"what a signature is about does not stay for it", []maru.Content{manifest("image", old, ""), about(manifest("signature", fresh, ""), "image")}, 0, "image"},
		{"each repository for itself", []maru.Content{blob("layer", old), elsewhere(manifest("image", old, "1", "layer")), elsewhere(blob("layer", old))}, 0, "layer"},
		{"the last tags", []maru.Content{manifest("one", old, "1"), manifest("two", old.Add(time.Hour), "2 latest"), manifest("three", old.Add(2*time.Hour), "3")}, 2, "one"},
		{"tags within the grace do not count against it", []maru.Content{manifest("one", fresh, "1"), manifest("two", fresh.Add(time.Minute), "2")}, 1, ""},
	} {
		var got []string
		for _, gone := range Unkept(now, c.contents, Retention{24 * time.Hour, c.tags}) {
			got = append(got, gone.Digest)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q goes, want %q", c.name, strings.Join(got, " "), c.want)
		}
	}
}

// TestUnkeptLeavesWholes shows of any contents that what stays lacks nothing that it had, whenever the removal
// stops, that a second look finds nothing to do, and that no tag goes unasked.
func TestUnkeptLeavesWholes(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "contents")
		left := map[string]maru.Content{}
		for i := range n {
			c := maru.Content{Repository: "default/shop", Digest: fmt.Sprint("d", i), Pushed: now.Add(-time.Duration(rapid.IntRange(0, 48).Draw(t, "hours")) * time.Hour)}
			if kind := rapid.IntRange(0, 2).Draw(t, "kind"); kind > 0 && i > 0 {
				c.MediaType = []string{testImage, testIndex}[kind-1]
				for range rapid.IntRange(0, 3).Draw(t, "parts") {
					part := left[fmt.Sprint("d", rapid.IntRange(0, i-1).Draw(t, "part"))]
					if kind == 2 || part.MediaType == "" { // images are made of blobs
						c.References = append(c.References, part.Digest)
					}
				}
				if rapid.Bool().Draw(t, "is about something") {
					c.Subject = fmt.Sprint("d", rapid.IntRange(0, n).Draw(t, "subject"))
				}
				if rapid.Bool().Draw(t, "is tagged") {
					c.Tags = []string{fmt.Sprint("t", i)}
				}
			}
			left[c.Digest] = c
		}
		gone := Unkept(now, slices.Collect(maps.Values(left)), Retention{Grace: 24 * time.Hour})
		nested := false
		for _, c := range gone {
			if len(c.Tags) > 0 || now.Sub(c.Pushed) < 24*time.Hour {
				t.Fatalf("%+v goes", c)
			}
			delete(left, c.Digest)
			for _, other := range left {
				nested = nested || other.MediaType == testIndex && c.MediaType == testIndex
				if slices.Contains(other.References, c.Digest) && !nested { // an index of indexes may go in any order
					t.Fatalf("%s goes before %s, which is made of it", c.Digest, other.Digest)
				}
			}
		}
		if again := Unkept(now, slices.Collect(maps.Values(left)), Retention{Grace: 24 * time.Hour}); len(again) > 0 {
			t.Fatalf("a second look finds %+v", again)
		}
	})
}
