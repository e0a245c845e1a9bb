package maru

import (
	"context"
	"io"
	"time"
)

// Content is a blob or a manifest in a repository of images.
type Content struct {
	Repository string    `json:"repository"`
	Digest     string    `json:"digest"` // sha256:…
	Size       int64     `json:"size"`
	MediaType  string    `json:"mediaType,omitempty"`  // of a manifest; "": a blob
	References []string  `json:"references,omitempty"` // of a manifest: digests of what it is made of, sorted
	Subject    string    `json:"subject,omitempty"`    // of a manifest: digest of the one that it is about
	Tags       []string  `json:"tags,omitempty"`       // sorted
	Pushed     time.Time `json:"pushed"`               // into this repository, the last time
}

// RegistryHost is the host in an engine's names for what is pushed to the registry: its manifests are images of the
// engine under RegistryHost/REPOSITORY:TAG and RegistryHost/REPOSITORY@DIGEST (see [Images]). Whoever asks for them on
// behalf of somebody sees first that they may have them.
const RegistryHost = "registry.maru.internal"

// Repositories keeps what people push to the image registry, beside the images that the engine brought
// or built itself. The same content may be in many repositories, and is stored once.
//
// Content comes by [Uploads] or is there already, and stays for as long as a repository or an image of the
// engine has it; what nothing has goes soon after. A repository is there while something is in it. What was
// acknowledged is on the disk. Methods are safe for concurrent use.
type Repositories interface {
	// Contents lists what is in a repository, or with "" in all of them, sorted by repository and digest.
	Contents(ctx context.Context, repository string) ([]Content, error)
	// Content finds by digest, or by tag, what is in a repository; NotFound. It does not tell the tags.
	Content(ctx context.Context, repository, reference string) (Content, error)
	// PutContent makes what is present under c's digest part of c's repository, and moves c's tags to it.
	// With a media type it is a manifest from then on, in all repositories; only manifests have tags, or it is
	// Invalid. NotFound when it, or for a manifest something that it is made of, is not present.
	PutContent(ctx context.Context, c Content) error
	// RemoveContent takes a tag away, or by digest the content with its tags; NotFound.
	RemoveContent(ctx context.Context, repository, reference string) error
	// ReadContent gives what is present under a digest, whoever has it, from an offset on, and how large
	// the whole is; NotFound, and Invalid for an offset behind the end.
	ReadContent(ctx context.Context, digest string, offset int64) (body io.ReadCloser, size int64, err error)
}

// UploadLife is how long an upload may take from its first piece on. Then it is forgotten.
const UploadLife = 24 * time.Hour

// Uploads takes content in piece by piece, also over a restart of the engine. Names are the caller's choice.
type Uploads interface {
	// AppendUpload adds what r gives to an upload, and tells its size then. The offset has to be its size so
	// far, or it is a Conflict, as it is while another piece is being added. An offset of 0 begins an upload;
	// another is NotFound where there is none. What was read before an error is kept. Exhausted: the disk is
	// nearly full.
	AppendUpload(ctx context.Context, upload string, offset int64, r io.Reader) (size int64, err error)
	// UploadSize tells how much was uploaded; NotFound.
	UploadSize(ctx context.Context, upload string) (int64, error)
	// CommitUpload makes what was uploaded part of a repository, and ends the upload; NotFound. When it does
	// not have the digest it is forgotten: Invalid.
	CommitUpload(ctx context.Context, upload, repository, digest string) error
	// DropUpload forgets an upload; NotFound.
	DropUpload(ctx context.Context, upload string) error
}
