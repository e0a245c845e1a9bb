package client

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/internal/source"
)

// Folder is a build context on this machine.
type Folder struct {
	Path     string
	Manifest source.Manifest
}

// SendSources makes the server have the folders' content, sending what it lacks, and gives the IDs of
// the sources in the folders' order. Progress is called with the bytes sent so far and in all, and may be nil.
func (c *Client) SendSources(ctx context.Context, folders []Folder, progress func(done, total int64)) ([]string, error) {
	if len(folders) == 0 {
		return nil, nil
	}
	offer := &maruv1.OfferRequest{}
	places := map[source.Digest]place{}
	for _, folder := range folders {
		manifest := &maruv1.Manifest{Entries: make([]*maruv1.ManifestEntry, len(folder.Manifest))}
		for i, e := range folder.Manifest {
			manifest.Entries[i] = &maruv1.ManifestEntry{Path: e.Path, Mode: e.Mode, Size: e.Size, Target: e.Target}
			if e.IsFile() {
				manifest.Entries[i].Sha256 = e.Digest[:]
				places[e.Digest] = place{filepath.Join(folder.Path, filepath.FromSlash(e.Path)), e.Size}
			}
		}
		offer.Manifests = append(offer.Manifests, manifest)
	}
	// What is uploaded but not yet committed may be collected meanwhile: the second offer commits it.
	for range 3 {
		response, err := c.Sources.Offer(ctx, offer)
		if err != nil {
			return nil, err
		}
		if len(response.Missing) == 0 {
			return response.Sources, nil
		}
		if err := c.upload(ctx, response.Missing, places, progress); err != nil {
			return nil, err
		}
	}
	return nil, maru.WithHint(maru.Errorf(maru.Conflict, "files changed while they were sent"), "try again when nothing writes to the build contexts")
}

type place struct {
	path string
	size int64
}

func (c *Client) upload(ctx context.Context, missing [][]byte, places map[source.Digest]place, progress func(done, total int64)) error {
	var done, total int64
	for _, digest := range missing {
		if len(digest) == len(source.Digest{}) {
			total += places[source.Digest(digest)].size
		}
	}
	conn, err := c.Sources.Upload(ctx)
	if err != nil {
		return err
	}
	send := func() error {
		for _, digest := range missing {
			if len(digest) != len(source.Digest{}) {
				return maru.Errorf(maru.Internal, "the server asks for a digest of %d bytes", len(digest))
			}
			from, ok := places[source.Digest(digest)]
			if !ok {
				return maru.Errorf(maru.Internal, "the server asks for content that was not offered")
			}
			sent := func(n int) {
				if done += int64(n); progress != nil {
					progress(done, total)
				}
			}
			if err := sendFile(conn, digest, from.path, sent); err != nil {
				return err
			}
		}
		return nil
	}
	sendErr := send()
	_, err = conn.CloseAndReceive()
	if sendErr != nil && !errors.Is(sendErr, io.EOF) {
		return sendErr
	}
	return err
}

// sendFile sends one piece of content. io.EOF: the server has ended the stream, and tells why at its end.
func sendFile(conn *connect.ClientStreamForClientSimple[maruv1.UploadRequest, maruv1.UploadResponse], digest []byte, path string, sent func(int)) error {
	file, err := os.Open(path)
	if err != nil {
		return maru.Errorf(maru.Invalid, "build context: %w", err)
	}
	defer file.Close()
	piece := make([]byte, 256<<10)
	for first := true; ; first = false {
		n, err := io.ReadFull(file, piece)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return maru.Errorf(maru.Invalid, "build context: %w", err)
		}
		if n > 0 || first {
			request := &maruv1.UploadRequest{Data: piece[:n]}
			if first {
				request.Sha256 = digest
			}
			if err := conn.Send(request); err != nil {
				return err
			}
			sent(n)
		}
		if err != nil {
			return nil
		}
	}
}
