package server

import (
	"context"
	"runtime"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// apiVersion is the newest version of the API that is served.
const apiVersion = "v1"

// chunk is how many bytes go into one message of a stream.
const chunk = 256 << 10

type systemService struct{ *Server }

func unsupported(what string) error {
	return maru.Errorf(maru.Unsupported, "this server has no %s", what)
}

func (s systemService) Info(context.Context, *maruv1.InfoRequest) (*maruv1.InfoResponse, error) {
	return &maruv1.InfoResponse{
		Version: s.cfg.Version.Version, Commit: s.cfg.Version.Commit, Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, HttpPort: uint32(s.cfg.HTTPPort), HttpsPort: uint32(s.cfg.HTTPSPort),
		ApiVersion: apiVersion,
	}, nil
}

func (s systemService) Health(ctx context.Context, _ *maruv1.HealthRequest) (*maruv1.HealthResponse, error) {
	if s.deps.Processes == nil {
		return nil, unsupported("knowledge of its processes")
	}
	all, err := s.deps.Processes.Processes(ctx)
	res := &maruv1.HealthResponse{}
	for _, p := range all {
		res.Processes = append(res.Processes, &maruv1.ProcessStatus{
			Name: p.Name, State: p.State, Message: p.Message, Version: p.Version, Pid: int64(p.PID), Since: timeProto(p.Since),
		})
	}
	return res, err
}

func (s systemService) Authority(context.Context, *maruv1.AuthorityRequest) (*maruv1.AuthorityResponse, error) {
	if s.deps.Authority == nil {
		return nil, unsupported("certificate authority")
	}
	return &maruv1.AuthorityResponse{Certificate: s.deps.Authority()}, nil
}

func (s systemService) Backup(ctx context.Context, req *maruv1.BackupRequest, stream *connect.ServerStream[maruv1.BackupResponse]) error {
	if s.deps.Backups == nil {
		return unsupported("backups")
	}
	if req.Passphrase == "" {
		return maru.WithHint(maru.Errorf(maru.Invalid, "the backup's passphrase is empty"), "a backup has all secrets in it: choose a passphrase")
	}
	w := messageWriter(func(data []byte) error { return stream.Send(&maruv1.BackupResponse{Data: data}) })
	return s.deps.Backups.Backup(ctx, w, req.Passphrase, !req.NoVolumes)
}

func (s systemService) Restore(ctx context.Context, stream *connect.ClientStream[maruv1.RestoreRequest]) (*maruv1.RestoreResponse, error) {
	if s.deps.Backups == nil {
		return nil, unsupported("backups")
	}
	if !stream.Receive() {
		return nil, maru.Errorf(maru.Invalid, "the stream has no message: %w", endOf(stream.Err()))
	}
	first := stream.Msg()
	r := &messageReader{rest: first.Data, next: func() ([]byte, error) {
		if !stream.Receive() {
			return nil, endOf(stream.Err())
		}
		return stream.Msg().Data, nil
	}}
	restored, err := s.deps.Backups.Restore(ctx, r, first.Passphrase)
	return &maruv1.RestoreResponse{Apps: restored.Apps, Volumes: restored.Volumes}, err
}

// messageWriter sends bytes as a stream's messages.
type messageWriter func([]byte) error

func (w messageWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), chunk)
		if err := w(p[:n]); err != nil {
			return written, err
		}
		written += n
		p = p[n:]
	}
	return written, nil
}
