package server_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

var files = []protoreflect.FileDescriptor{
	maruv1.File_maru_v1_access_proto, maruv1.File_maru_v1_app_proto, maruv1.File_maru_v1_config_proto, maruv1.File_maru_v1_env_proto,
	maruv1.File_maru_v1_environment_proto, maruv1.File_maru_v1_repository_proto,
	maruv1.File_maru_v1_exec_proto, maruv1.File_maru_v1_image_proto, maruv1.File_maru_v1_logs_proto, maruv1.File_maru_v1_route_proto, maruv1.File_maru_v1_run_proto, maruv1.File_maru_v1_secret_proto,
	maruv1.File_maru_v1_source_proto, maruv1.File_maru_v1_system_proto, maruv1.File_maru_v1_volume_proto,
}

func procedures() []protoreflect.MethodDescriptor {
	var all []protoreflect.MethodDescriptor
	for _, f := range files {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				all = append(all, methods.Get(j))
			}
		}
	}
	return all
}

// asking makes a request about the scope.
func asking(m protoreflect.MethodDescriptor, scope maru.Scope) *dynamicpb.Message {
	request := dynamicpb.NewMessage(m.Input())
	target := protoreflect.Message(request)
	if start := m.Input().Fields().ByName("start"); start != nil {
		target = request.Mutable(start).Message()
	}
	if field := target.Descriptor().Fields().ByName("scope"); field != nil {
		s := dynamicpb.NewMessage(field.Message())
		for name, part := range map[protoreflect.Name]string{"project": scope.Project, "environment": scope.Environment, "app": scope.App} {
			s.Set(field.Message().Fields().ByName(name), protoreflect.ValueOfString(part))
		}
		target.Set(field, protoreflect.ValueOfMessage(s))
	}
	return request
}

// call gives the code that the server answers with; "ok" also for errors that are not about access.
func call(t *testing.T, h *http.Client, base, token string, m protoreflect.MethodDescriptor, request proto.Message) string {
	t.Helper()
	body, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	contentType := "application/proto"
	streaming := m.IsStreamingClient() || m.IsStreamingServer()
	if streaming {
		contentType = "application/connect+proto"
		body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	}
	url := fmt.Sprintf("%s/%s/%s", base, m.Parent().FullName(), m.Name())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := lastEnvelope(res.Body, streaming)
	if err != nil {
		t.Fatalf("%s: %v", m.FullName(), err)
	}
	var answer struct {
		Code, Message string
		Error         struct{ Code, Message string }
	}
	_ = json.Unmarshal(data, &answer)
	if strings.HasSuffix(answer.Message+answer.Error.Message, "no app is named") {
		return "no app"
	}
	switch code := answer.Code + answer.Error.Code; code {
	case "unauthenticated", "permission_denied":
		return code
	}
	return "ok"
}

// lastEnvelope gives the message that ends a stream, or the body of a call.
func lastEnvelope(r io.Reader, streaming bool) ([]byte, error) {
	if !streaming {
		return io.ReadAll(r)
	}
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(r, head); err != nil {
			return nil, err
		}
		data := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, err
		}
		if head[0]&2 != 0 {
			return data, nil
		}
	}
}

var tokenScopes = []struct {
	name  string
	scope maru.Scope
}{
	{"app", maru.Scope{Project: "default", Environment: "production", App: "own"}},
	{"project", maru.Scope{Project: "default"}},
	{"all", maru.Scope{}},
}

var askedScopes = []struct {
	name  string
	scope maru.Scope
}{
	{"own app", maru.Scope{Project: "default", Environment: "production", App: "own"}},
	{"other app", maru.Scope{App: "other"}},
	{"other project", maru.Scope{Project: "other", App: "own"}},
	{"environment", maru.Scope{Project: "default", Environment: "production"}},
	{"everything", maru.Scope{}},
}

// TestAccess asks for every procedure in every scope as every kind of caller. The golden file has the
// lowest role that is let in, for tokens of one app, of its project, and of everything: it is the
// policy, for people to read and for reviews to see changes of.
func TestAccess(t *testing.T) {
	r := start(t)
	r.world.end = nil
	h := r.https()
	for _, scope := range tokenScopes {
		for _, role := range []maru.Role{maru.RoleRead, maru.RoleDeploy, maru.RoleAdmin} {
			_, _, err := r.world.CreateToken(t.Context(), "", maru.Token{Name: scope.name + "-" + string(role), Role: role, Scope: scope.scope})
			wantNil(t, err)
		}
	}
	var got strings.Builder
	for _, m := range procedures() {
		for _, asked := range askedScopes {
			request := asking(m, asked.scope)
			unscoped := proto.Equal(request, asking(m, maru.Scope{}))
			if unscoped && asked.name != "everything" {
				continue
			}
			fmt.Fprintf(&got, "%-26s %-14s", fmt.Sprintf("%s.%s", m.Parent().Name(), m.Name()), asked.name)
			if call(t, h, r.url, "maru_wrong", m, request) != "unauthenticated" {
				t.Errorf("%s takes a token that does not exist", m.FullName())
			}
			if call(t, h, r.url, "", m, request) == "ok" {
				fmt.Fprint(&got, " anybody\n")
				continue
			}
			if call(t, h, r.url, "maru_all-admin", m, request) == "no app" {
				fmt.Fprint(&got, " an app must be named\n")
				continue
			}
			for _, scope := range tokenScopes {
				fmt.Fprintf(&got, " %s:%-7s", scope.name, lowestRole(t, func(role maru.Role) string {
					return call(t, h, r.url, "maru_"+scope.name+"-"+string(role), m, request)
				}))
			}
			fmt.Fprint(&got, "\n")
		}
	}
	golden(t, "access.golden", strings.ReplaceAll(got.String(), " \n", "\n"))
}

func lowestRole(t *testing.T, ask func(maru.Role) string) string {
	t.Helper()
	lowest := "-"
	for _, role := range []maru.Role{maru.RoleAdmin, maru.RoleDeploy, maru.RoleRead} {
		switch answer := ask(role); {
		case answer == "ok" && (lowest != "-" || role == maru.RoleAdmin):
			lowest = string(role)
		case answer == "ok":
			t.Errorf("%s may, and a higher role may not", role)
		case answer != "permission_denied":
			t.Errorf("a caller that is known gets %s", answer)
		}
	}
	return lowest
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (run the test with -update, and look at the change):\n%s", path, got)
	}
}

func TestOneOffsStayInTheirCallersScope(t *testing.T) {
	r := start(t)
	_, _, err := r.world.CreateToken(t.Context(), "", maru.Token{Name: "one", Role: maru.RoleDeploy, Scope: tokenScopes[0].scope})
	wantNil(t, err)
	exec := maruv1.File_maru_v1_exec_proto.Services().ByName("ExecService").Methods().ByName("Exec")
	for app, want := range map[string]string{"own": "ok", "other": "permission_denied"} {
		request := &maruv1.ExecRequest{Message: &maruv1.ExecRequest_Run{Run: &maruv1.RunStart{Command: &maruv1.RunRequest{
			Scope: &maruv1.Scope{App: app}, Service: "web",
		}}}}
		if got := call(t, r.https(), r.url, "maru_one", exec, request); got != want {
			t.Errorf("in app %s: %s, want %s", app, got, want)
		}
	}
}
