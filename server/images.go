package server

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

type imageService struct{ *Server }

func (s imageService) Pull(ctx context.Context, req *maruv1.PullRequest, stream *connect.ServerStream[maruv1.PullResponse]) error {
	var lost error
	image, err := s.deps.Images.Pull(ctx, req.Reference,
		maru.PullOptions{Platform: req.Platform, Username: req.Username, Password: req.Password},
		func(p maru.PullProgress) {
			if lost == nil {
				lost = stream.Send(&maruv1.PullResponse{Done: p.Done, Total: p.Total})
			}
		})
	if err = errors.Join(err, lost); err != nil {
		return err
	}
	return stream.Send(&maruv1.PullResponse{Image: imageProto(image)})
}

func (s imageService) Load(ctx context.Context, stream *connect.ClientStream[maruv1.LoadRequest]) (*maruv1.LoadResponse, error) {
	images, err := s.deps.Images.Load(ctx, &messageReader{next: func() ([]byte, error) {
		if !stream.Receive() {
			return nil, endOf(stream.Err())
		}
		return stream.Msg().Data, nil
	}})
	return &maruv1.LoadResponse{Images: imagesProto(images)}, err
}

func (s imageService) List(ctx context.Context, _ *maruv1.ImageServiceListRequest) (*maruv1.ImageServiceListResponse, error) {
	images, err := s.deps.Images.Images(ctx)
	return &maruv1.ImageServiceListResponse{Images: imagesProto(images)}, err
}

func (s imageService) Prune(ctx context.Context, _ *maruv1.PruneRequest) (*maruv1.PruneResponse, error) {
	removed, err := s.PruneImages(ctx)
	return &maruv1.PruneResponse{Removed: imagesProto(removed)}, err
}

// PruneImages removes the images that no instance and no release still kept uses, and tells which.
// Conflict while a deploy makes images.
func (s *Server) PruneImages(ctx context.Context) ([]maru.Image, error) {
	if !s.unreleased.TryLock() {
		return nil, maru.WithHint(maru.Errorf(maru.Conflict, "a deploy is making images"), "try again when it is over")
	}
	defer s.unreleased.Unlock()
	keep, err := s.deps.Jobs.Images(ctx)
	if err != nil {
		return nil, err
	}
	return s.deps.Images.Prune(ctx, keep)
}

// messageReader reads the bytes of a stream's messages.
type messageReader struct {
	next func() ([]byte, error)
	rest []byte
}

func (r *messageReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		data, err := r.next()
		if err != nil {
			return 0, err
		}
		r.rest = data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// endOf makes the regular end of a stream io.EOF.
func endOf(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}
