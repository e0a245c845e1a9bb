package server

import (
	"context"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// certificateService keeps the gateway's certificates.
type certificateService struct{ *Server }

func (s certificateService) Add(ctx context.Context, req *maruv1.CertificateServiceAddRequest) (*maruv1.CertificateServiceAddResponse, error) {
	if s.deps.Certificates == nil {
		return nil, unsupported("certificates")
	}
	info, err := s.deps.Certificates.Add(ctx, callerName(ctx), req.Name, maru.Certificate{Chain: req.Chain, Key: req.Key})
	if err != nil {
		return nil, err
	}
	return &maruv1.CertificateServiceAddResponse{Certificate: certificateProto(info)}, nil
}

func (s certificateService) List(ctx context.Context, _ *maruv1.CertificateServiceListRequest) (*maruv1.CertificateServiceListResponse, error) {
	if s.deps.Certificates == nil {
		return nil, unsupported("certificates")
	}
	all, err := s.deps.Certificates.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	res := &maruv1.CertificateServiceListResponse{}
	for _, info := range all {
		res.Certificates = append(res.Certificates, certificateProto(info))
	}
	return res, nil
}

func (s certificateService) Remove(ctx context.Context, req *maruv1.CertificateServiceRemoveRequest) (*maruv1.CertificateServiceRemoveResponse, error) {
	if s.deps.Certificates == nil {
		return nil, unsupported("certificates")
	}
	return &maruv1.CertificateServiceRemoveResponse{}, s.deps.Certificates.Remove(ctx, callerName(ctx), req.Name)
}

func certificateProto(c maru.CertificateInfo) *maruv1.CertificateInfo {
	return &maruv1.CertificateInfo{
		Name: c.Name, Hosts: c.Hosts, Source: c.Source, Issuer: c.Issuer, State: c.State, Message: c.Message,
		NotBefore: timeProto(c.NotBefore), NotAfter: timeProto(c.NotAfter), Renewal: timeProto(c.Renewal),
		Updated: timeProto(c.Updated), By: c.By,
	}
}
