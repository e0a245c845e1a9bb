package server

import (
	"context"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

type volumeService struct{ *Server }

func (s volumeService) List(ctx context.Context, req *maruv1.VolumeServiceListRequest) (*maruv1.VolumeServiceListResponse, error) {
	all, err := s.deps.Volumes.Volumes(ctx)
	res := &maruv1.VolumeServiceListResponse{}
	for _, v := range all {
		if !fromScope(req.Scope).Covers(v.ID.Scope) {
			continue
		}
		res.Volumes = append(res.Volumes, &maruv1.Volume{
			Scope: scopeProto(v.ID.Scope), Name: v.ID.Volume, Bytes: v.Bytes, Created: timeProto(v.Created), Holders: v.Holders,
		})
	}
	return res, err
}

func (s volumeService) Remove(ctx context.Context, req *maruv1.VolumeServiceRemoveRequest) (*maruv1.VolumeServiceRemoveResponse, error) {
	for _, name := range req.Names {
		if err := s.deps.Volumes.RemoveVolume(ctx, maru.VolumeID{Scope: fromScope(req.Scope), Volume: name}); err != nil {
			return nil, err
		}
	}
	return &maruv1.VolumeServiceRemoveResponse{}, nil
}
