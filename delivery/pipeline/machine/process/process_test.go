package process_test

import (
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine/machinetest"
	"github.com/marucloud/maru/delivery/pipeline/machine/process"
)

func TestMachine(t *testing.T) {
	machinetest.Run(t, func(t *testing.T) machinetest.Fixture {
		return machinetest.Fixture{
			Machine: &process.Machine{
				Root:     t.TempDir(),
				Images:   func(ref string) bool { return ref != "missing" },
				Configs:  map[string]maru.ImageConfig{"host": {}, "greeter": {}},
				Programs: map[string][]string{"greeter": {"python3", "-c", greeter}},
			},
			Image: "host", Missing: "missing", Service: "greeter", Port: 18089,
			Ask: `python3 -c 'import socket, sys; print(socket.create_connection((sys.argv[1], sys.argv[2])).makefile().read())' "$1" "$2"`,
		}
	})
}

const greeter = `
import socketserver
class H(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(b"hello")
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", 18089), H).serve_forever()
`
