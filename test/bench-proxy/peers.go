package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// body is what the backend answers: 1 KB.
var body = strings.Repeat("0123456789abcdef", 64)

// start runs a program until it is stopped, and waits until it answers at address.
func start(ctx context.Context, folder, name, address string, command ...string) (*proxy, error) {
	log, err := os.Create(filepath.Join(folder, name+".out"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, folder
	cmd.Env = append(os.Environ(), "HOME="+folder, "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w; run scripts/deps.sh bench", name, err)
	}
	p := &proxy{name: name, address: address, cmd: cmd}
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return p, nil
		}
		if time.Now().After(deadline) {
			p.stop()
			said, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("%s does not listen: %w\n%s", name, err, said)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		fail(err)
	}
	return port
}

func write(folder, name, text string) (string, error) {
	path := filepath.Join(folder, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

var number = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

func versionOf(command ...string) string {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return "?"
	}
	return number.FindString(string(out))
}

const nginxCommon = `
daemon off; pid %[1]s/%[2]s.pid; worker_processes 2; error_log %[1]s/%[2]s.error crit; user root;
events { worker_connections 19000; }
http {
	client_body_temp_path %[1]s/%[2]s.body; proxy_temp_path %[1]s/%[2]s.proxy; fastcgi_temp_path %[1]s/%[2]s.f; uwsgi_temp_path %[1]s/%[2]s.u; scgi_temp_path %[1]s/%[2]s.s;
	keepalive_requests 1000000000; keepalive_timeout 600s;
`

// startBackend has nginx answer from memory.
func startBackend(ctx context.Context, folder string) (*proxy, error) {
	address := freeAddress()
	conf, err := write(folder, "backend.conf", fmt.Sprintf(nginxCommon+`
	access_log off;
	server { listen %[3]s; default_type text/plain; return 200 "%[4]s"; }
}`, folder, "backend", address, body))
	if err != nil {
		return nil, err
	}
	return start(ctx, folder, "backend", address, "nginx", "-c", conf, "-e", filepath.Join(folder, "backend.error"))
}

func startNginx(ctx context.Context, folder, backend string) (*proxy, error) {
	address, secure := freeAddress(), freeAddress()
	conf, err := write(folder, "nginx.conf", fmt.Sprintf(nginxCommon+`
	access_log %[1]s/nginx.log combined;
	upstream backend { server %[4]s; keepalive 128; keepalive_requests 1000000000; }
	server {
		listen %[3]s;
		listen %[5]s ssl http2;
		ssl_certificate %[1]s/certificate.pem; ssl_certificate_key %[1]s/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
		location / {
			proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
			proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id;
		}
	}
}`, folder, "nginx", address, backend, secure))
	if err != nil {
		return nil, err
	}
	p, err := start(ctx, folder, "nginx", address, "nginx", "-c", conf, "-e", filepath.Join(folder, "nginx.error"))
	if err == nil {
		p.version, p.secure = versionOf("nginx", "-v"), secure
	}
	return p, err
}

func startHAProxy(ctx context.Context, folder, backend string) (*proxy, error) {
	address, secure := freeAddress(), freeAddress()
	conf, err := write(folder, "haproxy.conf", fmt.Sprintf(`
global
	maxconn 8192
	nbthread 2
	log stdout format raw local0
defaults
	mode http
	log global
	option httplog
	option forwardfor
	http-reuse always
	timeout connect 5s
	timeout client 600s
	timeout server 600s
frontend in
	bind %s
	bind %s ssl crt %s alpn h2,http/1.1
	default_backend out
backend out
	server a %s
`, address, secure, filepath.Join(folder, "both.pem"), backend))
	if err != nil {
		return nil, err
	}
	p, err := start(ctx, folder, "haproxy", address, "haproxy", "-db", "-f", conf)
	if err == nil {
		p.version, p.secure = versionOf("haproxy", "-v"), secure
	}
	return p, err
}

func startCaddy(ctx context.Context, folder, backend string) (*proxy, error) {
	address, secure := freeAddress(), freeAddress()
	conf, err := write(folder, "Caddyfile", fmt.Sprintf(`
{
	admin off
	auto_https off
	default_sni bench.test
}
(all) {
	bind 127.0.0.1
	log {
		output file %[3]s/caddy.log
	}
	reverse_proxy %[4]s
}
http://:%[1]s {
	import all
}
https://:%[2]s {
	import all
	tls %[3]s/certificate.pem %[3]s/key.pem
}
`, portOf(address), portOf(secure), folder, backend))
	if err != nil {
		return nil, err
	}
	p, err := start(ctx, folder, "caddy", address, "caddy", "run", "--adapter", "caddyfile", "--config", conf)
	if err == nil {
		p.version, p.secure = versionOf("caddy", "version"), secure
	}
	return p, err
}
