package server

import (
	"context"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/internal/source"
)

// sourceService takes build contexts.
type sourceService struct{ *Server }

func (s sourceService) Offer(_ context.Context, req *maruv1.OfferRequest) (*maruv1.OfferResponse, error) {
	res := &maruv1.OfferResponse{}
	asked := map[source.Digest]bool{}
	for _, p := range req.Manifests {
		m, err := fromManifest(p)
		if err != nil {
			return nil, err
		}
		id, missing, err := s.sources.Offer(m)
		if err != nil {
			return nil, err
		}
		res.Sources = append(res.Sources, id)
		for _, digest := range missing {
			if !asked[digest] {
				asked[digest] = true
				res.Missing = append(res.Missing, digest[:])
			}
		}
	}
	return res, nil
}

func fromManifest(p *maruv1.Manifest) (source.Manifest, error) {
	m := make(source.Manifest, len(p.GetEntries()))
	for i, e := range p.GetEntries() {
		m[i] = source.Entry{Path: e.GetPath(), Mode: e.GetMode(), Size: e.GetSize(), Target: e.GetTarget()}
		if len(e.GetSha256()) == 0 {
			continue
		}
		if len(e.GetSha256()) != len(source.Digest{}) {
			return nil, maru.Errorf(maru.Invalid, "the digest of %q has %d bytes", e.GetPath(), len(e.GetSha256()))
		}
		m[i].Digest = source.Digest(e.GetSha256())
	}
	return m, nil
}

func (s sourceService) Upload(_ context.Context, stream *connect.ClientStream[maruv1.UploadRequest]) (*maruv1.UploadResponse, error) {
	upload := s.sources.Upload()
	defer upload.Close()
	for stream.Receive() {
		m := stream.Msg()
		if len(m.Sha256) > 0 {
			if len(m.Sha256) != len(source.Digest{}) {
				return nil, maru.Errorf(maru.Invalid, "a digest has %d bytes", len(m.Sha256))
			}
			if err := upload.Next(source.Digest(m.Sha256)); err != nil {
				return nil, err
			}
		}
		if err := upload.Write(m.Data); err != nil {
			return nil, err
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return &maruv1.UploadResponse{}, upload.Done()
}
