package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/marucloud/maru"
)

// Repositories is what [RunRepositories] tests.
type Repositories interface {
	maru.Repositories
	maru.Uploads
}

// RunRepositories tests the repositories of an engine. Each test uses repositories and content of its own, so
// that the factory may give the same engine each time. Restart is optional: it ends the engine as by
// kill -9, and gives one that goes on from what is there.
func RunRepositories(t *testing.T, factory, restart func(t *testing.T) Repositories) {
	for _, c := range []struct {
		name string
		test func(*repositories)
	}{
		{"UploadInPieces", uploadInPieces},
		{"UploadIsInterrupted", uploadIsInterrupted},
		{"UploadOneAtATime", uploadOneAtATime},
		{"UploadHasAnotherDigest", uploadHasAnotherDigest},
		{"UploadIsDropped", uploadIsDropped},
		{"EmptyContent", emptyContent},
		{"SameContentTwice", sameContentTwice},
		{"Read", readContent},
		{"TagsMove", tagsMove},
		{"RemoveTag", removeTag},
		{"RemoveByDigest", removeByDigest},
		{"Manifests", manifests},
		{"PartsStay", partsStay},
		{"RepositoriesAreApart", repositoriesAreApart},
		{"Lists", lists},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(&repositories{t, factory(t), t.Context()}) })
	}
	if restart == nil {
		return
	}
	t.Run("Restart", func(t *testing.T) {
		c := &repositories{t, factory(t), t.Context()}
		digest := c.push("restarts/a", "kept over a restart")
		c.put(maru.Content{Repository: "restarts/a", Digest: digest, MediaType: imageType, Tags: []string{"kept"}})
		c.append("restarts-upload", 0, "the first half, ")
		c.Repositories = restart(t)
		if found := c.find("restarts/a", "kept"); found.Digest != digest || c.read(digest, 0) != "kept over a restart" {
			t.Errorf("after a restart: %+v", found)
		}
		c.append("restarts-upload", 16, "the second half")
		whole := "the first half, the second half"
		if err := c.CommitUpload(c.ctx, "restarts-upload", "restarts/a", sumOf(whole)); err != nil {
			t.Error(err)
		}
		if got := c.read(sumOf(whole), 0); got != whole {
			t.Errorf("an upload that went on after a restart is %q", got)
		}
	})
}

type repositories struct {
	*testing.T
	Repositories
	ctx context.Context
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (c *repositories) append(upload string, offset int64, text string) {
	c.Helper()
	size, err := c.AppendUpload(c.ctx, upload, offset, strings.NewReader(text))
	if err != nil || size != offset+int64(len(text)) {
		c.Fatalf("append to %s: %d, %v", upload, size, err)
	}
}

// push makes the text content of a repository.
func (c *repositories) push(repository, text string) string {
	c.Helper()
	upload := "push-" + repository + "-" + sumOf(text)
	c.append(upload, 0, text)
	if err := c.CommitUpload(c.ctx, upload, repository, sumOf(text)); err != nil {
		c.Fatal(err)
	}
	return sumOf(text)
}

func (c *repositories) put(content maru.Content) {
	c.Helper()
	if err := c.PutContent(c.ctx, content); err != nil {
		c.Fatal(err)
	}
}

func (c *repositories) find(repository, reference string) maru.Content {
	c.Helper()
	found, err := c.Content(c.ctx, repository, reference)
	if err != nil {
		c.Fatal(err)
	}
	return found
}

func (c *repositories) missing(repository, reference string) {
	c.Helper()
	if found, err := c.Content(c.ctx, repository, reference); maru.KindOf(err) != maru.NotFound {
		c.Errorf("%s in %s: %+v, %v", reference, repository, found, err)
	}
}

func (c *repositories) read(digest string, offset int64) string {
	c.Helper()
	body, _, err := c.ReadContent(c.ctx, digest, offset)
	if err != nil {
		c.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		c.Fatal(err)
	}
	return string(data)
}

func (c *repositories) refused(kind maru.Kind, err error, what string) {
	c.Helper()
	if maru.KindOf(err) != kind {
		c.Errorf("%s: %v (%s), want %s", what, err, maru.KindOf(err), kind)
	}
}

func uploadInPieces(c *repositories) {
	_, err := c.UploadSize(c.ctx, "pieces")
	c.refused(maru.NotFound, err, "the size of no upload")
	_, err = c.AppendUpload(c.ctx, "pieces", 5, strings.NewReader("x"))
	c.refused(maru.NotFound, err, "going on with no upload")
	c.append("pieces", 0, "")
	c.append("pieces", 0, "one, ")
	c.append("pieces", 5, "two")
	_, err = c.AppendUpload(c.ctx, "pieces", 5, strings.NewReader("two"))
	c.refused(maru.Conflict, err, "a piece that is there")
	_, err = c.AppendUpload(c.ctx, "pieces", 9, strings.NewReader("three"))
	c.refused(maru.Conflict, err, "a piece with a gap before it")
	if size, err := c.UploadSize(c.ctx, "pieces"); err != nil || size != 8 {
		c.Errorf("size %d, %v", size, err)
	}
	c.missing("pieces/a", sumOf("one, two"))
	if err := c.CommitUpload(c.ctx, "pieces", "pieces/a", sumOf("one, two")); err != nil {
		c.Fatal(err)
	}
	found := c.find("pieces/a", sumOf("one, two"))
	if found.Size != 8 || found.MediaType != "" || found.Repository != "pieces/a" || time.Since(found.Pushed) > time.Hour {
		c.Errorf("%+v", found)
	}
	c.refused(maru.NotFound, c.CommitUpload(c.ctx, "pieces", "pieces/a", sumOf("one, two")), "the end of an upload that has ended")
}

func uploadIsInterrupted(c *repositories) {
	c.append("interrupted", 0, "begun, ")
	broken := io.MultiReader(strings.NewReader("half of "), iotest.ErrReader(errors.New("the client went away")))
	if _, err := c.AppendUpload(c.ctx, "interrupted", 7, broken); err == nil {
		c.Error("a piece that broke off is taken for whole")
	}
	whole := "begun, half of it"
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for { // what broke off may still be on its way
		size, err := c.UploadSize(c.ctx, "interrupted")
		if err != nil || size > 15 || size < 7 {
			c.Fatalf("%d bytes are there, %v", size, err)
		}
		if _, err = c.AppendUpload(c.ctx, "interrupted", size, strings.NewReader(whole[size:])); maru.KindOf(err) != maru.Conflict {
			break
		}
		<-tick.C
	}
	if err := c.CommitUpload(c.ctx, "interrupted", "interrupted/a", sumOf(whole)); err != nil {
		c.Error(err)
	}
}

func uploadOneAtATime(c *repositories) {
	first := strings.Repeat("first", 1<<20) // more than fits between here and the engine
	r, w := io.Pipe()
	var adding sync.WaitGroup
	adding.Go(func() {
		if _, err := c.AppendUpload(c.ctx, "busy", 0, r); err != nil {
			c.Error(err)
		}
	})
	if _, err := io.WriteString(w, first); err != nil {
		c.Fatal(err)
	}
	_, err := c.AppendUpload(c.ctx, "busy", 0, strings.NewReader("second"))
	c.refused(maru.Conflict, err, "a piece while another is added")
	c.refused(maru.Conflict, c.CommitUpload(c.ctx, "busy", "busy/a", sumOf(first)), "the end while a piece is added")
	if err := w.Close(); err != nil {
		c.Error(err)
	}
	adding.Wait()
	if err := c.CommitUpload(c.ctx, "busy", "busy/a", sumOf(first)); err != nil {
		c.Error(err)
	}
}

func uploadHasAnotherDigest(c *repositories) {
	c.append("wrong", 0, "not what was said")
	c.refused(maru.Invalid, c.CommitUpload(c.ctx, "wrong", "wrong/a", sumOf("what was said")), "another digest")
	c.missing("wrong/a", sumOf("what was said"))
	c.missing("wrong/a", sumOf("not what was said"))
	_, err := c.UploadSize(c.ctx, "wrong")
	c.refused(maru.NotFound, err, "an upload that was not what it said")
}

func uploadIsDropped(c *repositories) {
	c.append("dropped", 0, "nobody wants this")
	if err := c.DropUpload(c.ctx, "dropped"); err != nil {
		c.Error(err)
	}
	c.refused(maru.NotFound, c.DropUpload(c.ctx, "dropped"), "an upload that was dropped")
	c.append("dropped", 0, "") // the name is free
	if size, err := c.UploadSize(c.ctx, "dropped"); size != 0 || err != nil {
		c.Errorf("%d, %v", size, err)
	}
	if err := c.DropUpload(c.ctx, "dropped"); err != nil {
		c.Error(err)
	}
}

func emptyContent(c *repositories) {
	digest := c.push("empty/a", "")
	if found := c.find("empty/a", digest); found.Size != 0 || c.read(digest, 0) != "" {
		c.Errorf("%+v", found)
	}
}

func sameContentTwice(c *repositories) {
	first := c.push("twice/a", "the same")
	c.push("twice/a", "the same")
	second := c.push("twice/b", "the same")
	if first != second || c.read(first, 0) != "the same" {
		c.Errorf("%s, %s", first, second)
	}
	if err := c.RemoveContent(c.ctx, "twice/a", first); err != nil {
		c.Error(err)
	}
	c.missing("twice/a", first)
	c.find("twice/b", first)
}

func readContent(c *repositories) {
	text := strings.Repeat("0123456789", 100_000)
	digest := c.push("read/a", text)
	for _, offset := range []int64{0, 1, 999_999, 1_000_000} {
		if got := c.read(digest, offset); got != text[offset:] {
			c.Errorf("from %d: %d bytes", offset, len(got))
		}
	}
	body, size, err := c.ReadContent(c.ctx, digest, 5)
	if err != nil || size != 1_000_000 {
		c.Fatalf("%d, %v", size, err)
	}
	start := make([]byte, 5)
	if _, err := io.ReadFull(body, start); err != nil || !bytes.Equal(start, []byte("56789")) {
		c.Errorf("%q, %v", start, err)
	}
	if err := body.Close(); err != nil { // before its end
		c.Error(err)
	}
	for _, offset := range []int64{-1, 1_000_001} {
		_, _, err := c.ReadContent(c.ctx, digest, offset)
		c.refused(maru.Invalid, err, "a wrong offset")
	}
	_, _, err = c.ReadContent(c.ctx, sumOf("never pushed"), 0)
	c.refused(maru.NotFound, err, "what is not there")
}

func tagsMove(c *repositories) {
	one, two := c.push("tags/a", "one"), c.push("tags/a", "two")
	c.put(maru.Content{Repository: "tags/a", Digest: one, MediaType: imageType, Tags: []string{"1", "latest"}})
	if found := c.find("tags/a", "latest"); found.Digest != one {
		c.Errorf("%+v", found)
	}
	c.put(maru.Content{Repository: "tags/a", Digest: two, MediaType: imageType, Tags: []string{"2", "latest"}})
	if found := c.find("tags/a", "latest"); found.Digest != two {
		c.Errorf("%+v", found)
	}
	if found := c.find("tags/a", "1"); found.Digest != one {
		c.Errorf("%+v", found)
	}
	c.missing("tags/b", "latest")
	c.refused(maru.NotFound, c.PutContent(c.ctx, maru.Content{Repository: "tags/a", Digest: sumOf("never pushed"), MediaType: imageType, Tags: []string{"3"}}), "a tag for what is not there")
	c.missing("tags/a", "3")
	blob := c.push("tags/a", "a blob")
	c.refused(maru.Invalid, c.PutContent(c.ctx, maru.Content{Repository: "tags/a", Digest: blob, Tags: []string{"3"}}), "a tag for a blob")
	c.put(maru.Content{Repository: "tags/a", Digest: one, Tags: []string{"3"}})
	if found := c.find("tags/a", "3"); found.Digest != one || found.MediaType != imageType {
		c.Errorf("%+v", found)
	}
}

func removeTag(c *repositories) {
	digest := c.push("untag/a", "tagged twice")
	c.put(maru.Content{Repository: "untag/a", Digest: digest, MediaType: imageType, Tags: []string{"1", "2"}})
	if err := c.RemoveContent(c.ctx, "untag/a", "1"); err != nil {
		c.Error(err)
	}
	c.missing("untag/a", "1")
	c.find("untag/a", "2")
	c.find("untag/a", digest)
	c.refused(maru.NotFound, c.RemoveContent(c.ctx, "untag/a", "1"), "a tag that is gone")
}

func removeByDigest(c *repositories) {
	digest := c.push("remove/a", "to be removed")
	c.put(maru.Content{Repository: "remove/a", Digest: digest, MediaType: imageType, Tags: []string{"1", "2"}})
	c.put(maru.Content{Repository: "remove/b", Digest: digest, MediaType: imageType, Tags: []string{"1"}})
	if err := c.RemoveContent(c.ctx, "remove/a", digest); err != nil {
		c.Error(err)
	}
	for _, reference := range []string{"1", "2", digest} {
		c.missing("remove/a", reference)
	}
	if found := c.find("remove/b", "1"); found.Digest != digest {
		c.Errorf("%+v", found)
	}
	c.refused(maru.NotFound, c.RemoveContent(c.ctx, "remove/a", digest), "what is gone")
	if err := c.RemoveContent(c.ctx, "remove/b", digest); err != nil {
		c.Error(err)
	}
	c.gone(digest)
}

// gone waits until content that nothing has is not present any more.
func (c *repositories) gone(digest string) {
	c.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		body, _, err := c.ReadContent(c.ctx, digest, 0)
		if maru.KindOf(err) == maru.NotFound {
			return
		}
		if err == nil {
			_ = body.Close()
		}
	}
	c.Errorf("%s is still there", digest)
}

const (
	imageType = "application/vnd.oci.image.manifest.v1+json"
	indexType = "application/vnd.oci.image.index.v1+json"
)

func manifests(c *repositories) {
	config, layer := c.push("manifests/a", "a config"), c.push("manifests/a", "a layer")
	manifest := c.push("manifests/a", "a manifest")
	c.refused(maru.NotFound, c.PutContent(c.ctx, maru.Content{
		Repository: "manifests/a", Digest: manifest, MediaType: imageType, References: []string{config, sumOf("never pushed")}, Tags: []string{"1"},
	}), "a manifest with a part that is not there")
	c.missing("manifests/a", "1")
	c.put(maru.Content{Repository: "manifests/a", Digest: manifest, MediaType: imageType, References: []string{layer, config}, Subject: sumOf("never pushed"), Tags: []string{"1"}})
	parts := slices.Sorted(slices.Values([]string{config, layer}))
	found := c.find("manifests/a", "1")
	if found.MediaType != imageType || !slices.Equal(found.References, parts) || found.Subject != sumOf("never pushed") || found.Tags != nil {
		c.Errorf("%+v", found)
	}
	c.put(maru.Content{Repository: "manifests/b", Digest: manifest})
	if found := c.find("manifests/b", manifest); found.MediaType != imageType || found.Repository != "manifests/b" {
		c.Errorf("in another repository: %+v", found)
	}
}

func partsStay(c *repositories) {
	layer, manifest := c.push("parts/a", "a layer that stays"), c.push("parts/a", "a manifest that stays")
	other := c.push("parts/a", "something else")
	c.put(maru.Content{Repository: "parts/a", Digest: manifest, MediaType: imageType, References: []string{layer}})
	for _, digest := range []string{layer, other} {
		if err := c.RemoveContent(c.ctx, "parts/a", digest); err != nil {
			c.Error(err)
		}
	}
	c.gone(other)
	if got := c.read(layer, 0); got != "a layer that stays" {
		c.Errorf("%q", got)
	}
	if err := c.RemoveContent(c.ctx, "parts/a", manifest); err != nil {
		c.Error(err)
	}
	c.gone(layer)
}

func repositoriesAreApart(c *repositories) {
	digest := c.push("apart/a", "of a alone")
	for _, other := range []string{"apart", "apart/a/b", "apart/b", "apart/aa"} {
		c.missing(other, digest)
		if found, err := c.Contents(c.ctx, other); err != nil || len(found) > 0 {
			c.Errorf("%s: %+v, %v", other, found, err)
		}
		c.refused(maru.NotFound, c.RemoveContent(c.ctx, other, digest), "what another repository has")
	}
}

func lists(c *repositories) {
	b := c.push("lists/b", "of b")
	a := c.push("lists/a", "of a")
	c.put(maru.Content{Repository: "lists/a", Digest: a, MediaType: indexType, Tags: []string{"2", "1"}})
	c.put(maru.Content{Repository: "lists/b", Digest: a})
	found, err := c.Contents(c.ctx, "lists/a")
	if err != nil || len(found) != 1 || found[0].Digest != a || !slices.Equal(found[0].Tags, []string{"1", "2"}) || found[0].MediaType != indexType || found[0].Size != 4 {
		c.Errorf("%+v, %v", found, err)
	}
	all, err := c.Contents(c.ctx, "")
	if err != nil {
		c.Fatal(err)
	}
	var got []string
	for _, content := range all {
		if strings.HasPrefix(content.Repository, "lists/") {
			got = append(got, content.Repository+" "+content.Digest+" "+strings.Join(content.Tags, ","))
		}
	}
	want := []string{"lists/a " + a + " 1,2", "lists/b " + a + " ", "lists/b " + b + " "}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.Errorf("got %q, want %q", got, want)
	}
}
