package compose

import (
	"bytes"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

func compile(t *testing.T, data []byte) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serviceExtensions are what a service may say under x-maru, and what it may not. The published schema
// and the program agree on each.
var serviceExtensions = []struct {
	text  string
	valid bool
}{
	{"{}", true},
	{"null", true},
	{"[]", false},
	{"{foo: 1}", false},
	{"{x-mine: 1}", true},
	{"{route: example.com}", true},
	{"{route: '*.example.com/api'}", true},
	{"{route: /api}", true},
	{"{route: https://example.com}", false},
	{"{route: 'example.com:80'}", false},
	{"{route: [example.com, {host: a.example.com, path: /x, port: 80, strip: true, headers: {X-A: b}}]}", true},
	{"{route: {host: 'a b'}}", false},
	{"{route: {path: api}}", false},
	{"{route: {hots: a}}", false},
	{"{route: {port: 0}}", false},
	{"{balance: prequal}", true},
	{"{balance: random}", false},
	{"{balance: {policy: round_robin, slow_start: 1m}}", true},
	{"{balance: {slow_start: 0}}", true},
	{"{balance: {slow_start: soon}}", false},
	{"{balance: {hash: address}}", true},
	{"{balance: {hash: {header: X-User}}}", true},
	{"{balance: {hash: {cookie: session}, slow_start: 5s}}", true},
	{"{balance: {hash: {cookie: 'a b'}}}", false},
	{"{balance: {hash: {}}}", false},
	{"{balance: {hash: {header: A, cookie: b}}}", false},
	{"{balance: {hash: name}}", false},
	{"{balance: {hash: address, policy: prequal}}", false},
	{"{limits: auto}", true},
	{"{limits: 100}", true},
	{"{limits: 0}", false},
	{"{limits: many}", false},
	{"{limits: {concurrency: auto, queue: 100, wait: 500ms}}", true},
	{"{limits: {concurrency: 10}}", true},
	{"{limits: {queue: 100}}", false},
	{"{limits: {concurrency: 10, wait: 1s}}", false},
	{"{faults: {delay: 200ms, percent: 10%}}", true},
	{"{faults: [{from: gateway, status: 503, percent: 0.5}, {from: [web], methods: [GET], paths: [/api], cut: true}, {corrupt: true}]}", true},
	{"{faults: {percent: 10}}", false},
	{"{faults: {cut: true, percent: 110}}", false},
	{"{faults: {status: 99}}", false},
	{"{faults: slow}", false},
	{"{priority: low}", true},
	{"{priority: urgent}", false},
	{"{route: {path: /x, exact: true}}", true},
	{"{route: {exact: true}}", false},
	{"{route: {match: {methods: [GET, HEAD], headers: {X-A: 1}, query: {v: 2}}}}", true},
	{"{route: {match: {methods: POST}}}", true},
	{"{route: {match: {methods: get}}}", false},
	{"{route: {match: {method: GET}}}", false},
	{"{route: {match: [GET]}}", false},
	{"{route: {redirect: {scheme: https, status: 301}}}", true},
	{"{route: {redirect: {host: a.example.com, port: 8443, prefix: /x}}}", true},
	{"{route: {redirect: {status: 301}}}", false},
	{"{route: {redirect: {scheme: ftp}}}", false},
	{"{route: {redirect: {host: a, status: 200}}}", false},
	{"{route: {redirect: {host: '*.a'}}}", false},
	{"{route: {redirect: {path: /a, prefix: /b}}}", false},
	{"{route: {rewrite: {host: a.internal, path: /x}}}", true},
	{"{route: {path: /a, rewrite: {prefix: /}}}", true},
	{"{route: {rewrite: {}}}", false},
	{"{route: {rewrite: {path: x}}}", false},
	{"{route: {request: {set: {X-A: 1}, add: {X-B: 2}, remove: X-C}, response: {remove: [Server]}}}", true},
	{"{route: {request: {delete: X-C}}}", false},
	{"{route: {response: {remove: {a: b}}}}", false},
	{"{route: {cors: 'https://example.com'}}", true},
	{"{route: {cors: {origins: ['https://*.example.com'], methods: [GET, PUT], headers: X-A, expose: [X-B], credentials: true, max_age: 1h}}}", true},
	{"{route: {cors: {origins: '*', methods: '*', headers: '*'}}}", true},
	{"{route: {cors: {methods: GET}}}", false},
	{"{route: {compress: true}}", true},
	{"{route: {compress: {min: 4k, types: [application/x-thing]}}}", true},
	{"{route: {compress: {minimum: 4k}}}", false},
	{"{route: {grpc_web: true}}", true},
	{"{route: {grpc_web: [x]}}", false},
	{"{route: {maintenance: true}}", true},
	{"{route: {maintenance: 'Back at noon.'}}", true},
	{"{maintenance: {text: Back at noon., except: 10.0.0.0/8}}", true},
	{"{maintenance: [x]}", false},
	{"{route: {addresses: 10.0.0.0/8}}", true},
	{"{route: {addresses: {allow: [10.0.0.0/8, '::1'], deny: 10.0.0.1}}}", true},
	{"{route: {addresses: {}}}", false},
	{"{route: {max_body: 10m, timeout: 5s}}", true},
	{"{route: {max_body: 0}}", false},
	{"{route: {max_body: large}}", false},
	{"{route: {timeout: 5}}", false},
	{"{route: {limit: 100/s}}", true},
	{"{route: {limit: [{rate: 600/m, burst: 50, by: address}, {rate: 20/15m, by: {header: X-Tenant}}]}}", true},
	{"{route: {limit: {rate: 100}}}", false},
	{"{route: {limit: {burst: 5}}}", false},
	{"{route: {limit: {rate: 5/s, by: moon}}}", false},
	{"{route: {limit: {rate: 5/s, by: {cookie: x}}}}", false},
	{"{route: {quota: 10000/day, auth: {keys: users}}}", true},
	{"{route: {quota: [{rate: 1000000/month, by: token}, 100/hour], auth: {keys: users}}}", true},
	{"{route: {quota: 10000/day}}", false},
	{"{route: {quota: 10000/d, auth: {keys: users}}}", false},
	{"{route: {quota: 0/day, auth: {keys: users}}}", false},
	{"{route: {quota: {by: user}, auth: {keys: users}}}", false},
	{"{route: {quota: {rate: 1/day, by: address}, auth: {keys: users}}}", false},
	{"{route: {concurrency: 10}}", true},
	{"{route: {concurrency: {requests: 10, by: address}}}", true},
	{"{route: {concurrency: {by: address}}}", false},
	{"{route: {concurrency: 0}}", false},
	{"{route: {auth: {basic: users}}}", true},
	{"{route: {auth: {basic: {secret: users, realm: Shop}}}}", true},
	{"{route: {auth: {keys: {secret: users, header: X-Key}}}}", true},
	{"{route: {auth: {}}}", false},
	{"{route: {auth: {jwt: {issuer: 'https://login.example.com', audience: shop, claim: email}}}}", true},
	{"{route: {auth: {jwt: {issuer: 'http://localhost:5556/dex', keys: 'https://a.example.com/keys'}}}}", true},
	{"{route: {auth: {jwt: {issuer: 'http://login.example.com'}}}}", false},
	{"{route: {auth: {jwt: {audience: shop}}}}", false},
	{"{route: {auth: {basic: users, keys: users}}}", false},
	{"{route: {auth: {keys: {header: X-Key}}}}", false},
	{"{route: {auth: {digest: users}}}", false},
	{"{route: {auth: {forward: web}}}", true},
	{"{route: {auth: {forward: 'https://auth.example.com/verify?x=y'}}}", true},
	{"{route: {auth: {forward: {service: web, port: 90, path: /verify, request_headers: [Cookie], response_headers: X-A, user: X-User, timeout: 2s, fail: open}}}}", true},
	{"{route: {auth: {forward: {url: 'http://10.0.0.1:9000/verify', fail: closed}}}}", true},
	{"{route: {auth: {forward: {url: 'http://10.0.0.1:9000/', path: /verify}}}}", false},
	{"{route: {auth: {forward: {url: 'ftp://10.0.0.1/'}}}}", false},
	{"{route: {auth: {forward: {service: web, url: 'http://10.0.0.1/'}}}}", false},
	{"{route: {auth: {forward: {path: /verify}}}}", false},
	{"{route: {auth: {forward: {service: web, path: verify}}}}", false},
	{"{route: {auth: {forward: {service: web, fail: maybe}}}}", false},
	{"{route: {auth: {oidc: {issuer: 'https://login.example.com', client: shop}}}}", true},
	{"{route: {auth: {oidc: {issuer: 'https://login.example.com', client: shop, secret: users, scopes: [email, groups], emails: ['*@example.com', ada@x.test], groups: admins, claims: {hd: example.com, realm.roles: [a, b]}, claim: email, session: 24h, path: /.login}}}}", true},
	{"{route: {auth: {oidc: {issuer: 'https://login.example.com'}}}}", false},
	{"{route: {auth: {oidc: {client: shop}}}}", false},
	{"{route: {auth: {oidc: {issuer: 'http://login.example.com', client: shop}}}}", false},
	{"{route: {auth: {oidc: {issuer: 'https://login.example.com', client: shop, claims: [a]}}}}", false},
	{"{route: {auth: {oidc: {issuer: 'https://login.example.com', client: shop, roles: [a]}}}}", false},
	{"{route: {host: a, tls: {redirect: false, hsts: 180d}}}", true},
	{"{route: {host: a, tls: {hsts: {age: 180d, subdomains: true, preload: true}}}}", true},
	{"{route: {host: a, tls: {hsts: {subdomains: true}}}}", false},
	{"{route: {host: a, tls: {hsts: soon}}}", false},
	{"{route: {host: a, tls: {client: maybe}}}", false},
	{"{route: {host: a, tls: {cert: a.pem}}}", false},
	{"{route: {host: a, tls: on}}", false},
	{"{route: {host: a, port: 443, tls: passthrough}}", true},
	{"{route: {host: a, port: 443, tls: passed}}", false},
	{"{route: {host: a, tls: passthrough}}", false},
	{"{route: {host: a, port: 443, path: /x, tls: passthrough}}", false},
	{"{route: {host: a, port: 443, auth: {basic: users}, tls: passthrough}}", false},
	{"{proxy_protocol: v2}", true},
	{"{proxy_protocol: {'80': v1, '443': v2}}", true},
	{"{proxy_protocol: v3}", false},
	{"{proxy_protocol: {'80': true}}", false},
	{"{health: /healthz}", true},
	{"{health: healthz}", false},
	{"{health: {path: /x, port: 80, interval: 5s, timeout: 1s, retries: 2, start_period: 1m, start_interval: 1s, live: true, headers: {A: b}}}", true},
	{"{health: {grpc: true}}", true},
	{"{health: {grpc: my.Service, port: 90}}", true},
	{"{health: {tcp: 5432}}", true},
	{"{health: {exec: [test, -f, /x]}}", true},
	{"{health: {exec: test -f /x}}", true},
	{"{health: {}}", false},
	{"{health: {path: /x, tcp: 80}}", false},
	{"{health: {path: /x, interval: soon}}", false},
	{"{protocol: http}", true},
	{"{protocol: {'80': grpc}}", true},
	{"{protocol: smtp}", false},
	{"{release: ./migrate}", true},
	{"{release: [./migrate, up]}", true},
	{"{release: {command: ./migrate, timeout: 5m}}", true},
	{"{release: {timeout: 5m}}", false},
	{"{release: []}", false},
	{"{rollout: rolling}", true},
	{"{rollout: {strategy: recreate, deadline: 2m, parallel: 2}}", true},
	{"{rollout: sideways}", false},
	{"{rollout: canary}", true},
	{"{rollout: blue-green}", true},
	{"{rollout: {strategy: canary, steps: [5%, 25, '50']}}", true},
	{"{rollout: {strategy: canary, steps: [{weight: 1%, for: 2m, requests: 200, replicas: 2}, {weight: 50%, pause: true}]}}", true},
	{"{rollout: {strategy: canary, steps: [{for: 2m}]}}", false},
	{"{rollout: {strategy: canary, steps: 5%}}", false},
	{"{rollout: {strategy: canary, steps: [2.5%]}}", false},
	{"{rollout: {strategy: canary, steps: [100%]}}", false},
	{"{rollout: {strategy: canary, for: 5m, requests: 1000, patience: 2h, deadline: 1m}}", true},
	{"{rollout: {strategy: canary, match: {headers: {X-Canary: always}}, steps: [0%, 5%]}}", true},
	{"{rollout: {strategy: canary, match: [{cookies: {beta: 'yes'}}, {headers: {X-Bot: 'yes'}, to: old}]}}", true},
	{"{rollout: {strategy: canary, match: {to: old}}}", false},
	{"{rollout: {strategy: canary, match: {headers: {A: b}, to: both}}}", false},
	{"{rollout: {strategy: canary, sticky: true}}", true},
	{"{rollout: {strategy: canary, sticky: 2h}}", true},
	{"{rollout: {strategy: canary, sticky: maybe}}", false},
	{"{rollout: {strategy: canary, mirror: 10%}}", true},
	{"{rollout: {strategy: canary, mirror: {percent: 100, for: 5m}}}", true},
	{"{rollout: {strategy: canary, mirror: 0%}}", false},
	{"{rollout: {strategy: canary, replay: true}}", true},
	{"{rollout: {strategy: canary, replay: 20/s}}", true},
	{"{rollout: {strategy: canary, replay: 101/s}}", false},
	{"{rollout: {strategy: canary, replay: 0/s}}", false},
	{"{rollout: {strategy: canary, judge: {errors: 1%, p50: 50ms, p95: 200ms, p99: 300ms}}}", true},
	{"{rollout: {strategy: canary, judge: {margins: {errors: 0.1%, error_ratio: 200%, latency: 20%}}}}", true},
	{"{rollout: {strategy: canary, judge: false, warmup: 30s}}", true},
	{"{rollout: {strategy: canary, warmup: 0}}", true},
	{"{rollout: {strategy: canary, baseline: fresh}}", true},
	{"{rollout: {strategy: canary, baseline: old}}", false},
	{"{rollout: {strategy: canary, warmup: soon}}", false},
	{"{rollout: {strategy: canary, judge: {latency: false, p99: 1s}}}", true},
	{"{rollout: {strategy: canary, judge: {latency: 5ms}}}", false},
	{"{rollout: {strategy: canary, judge: {error: 1%}}}", false},
	{"{rollout: {strategy: canary, judge: {p99: fast}}}", false},
	{"{rollout: {strategy: blue-green, keep: 1h}}", true},
	{"{rollout: {strategy: blue-green, keep: 0, steps: [50%]}}", true},
	{"{rollout: {strategy: blue-green, keep: long}}", false},
	{"{rollout: {strategi: rolling}}", false},
	{"{rollout: {deadline: 2}}", false},
	{"{allow: gateway}", true},
	{"{allow: [gateway, web]}", true},
	{"{allow: {web: true}}", false},
	{"{allow: [gateway, {service: web, methods: [GET, HEAD], paths: [/api, /static]}]}", true},
	{"{allow: {service: web, methods: GET, paths: /api}}", true},
	{"{allow: {service: web}}", true},
	{"{allow: {methods: [GET]}}", false},
	{"{allow: {service: web, methods: [get]}}", false},
	{"{allow: {service: web, paths: [api]}}", false},
	{"{allow: {service: web, ports: [80]}}", false},
	{"{timeout: 5s}", true},
	{"{timeout: 5}", false},
	{"{timeout: 1h30m}", true},
	{"{retry: 2}", true},
	{"{retry: 0}", true},
	{"{retry: {attempts: 2}}", true},
	{"{retry: {attempt: 2}}", false},
	{"{retry: {attempts: 2, hedge: 50ms}}", true},
	{"{retry: {hedge: 95%}}", true},
	{"{retry: {hedge: 99.9%}}", true},
	{"{retry: {hedge: 5%}}", false},
	{"{retry: {hedge: 100%}}", false},
	{"{retry: {hedge: soon}}", false},
	{"{retry: -1}", false},
	{"{drain: 1m}", true},
	{"{scale: {min: 1, max: 3, concurrency: 10}}", true},
	{"{scale: {min: -1}}", false},
	{"{scale: {least: 1}}", false},
	{"{go: {package: ./cmd, version: '1.26.8'}}", true},
	{"{go: {version: latest}}", false},
}

func TestSchemaAgrees(t *testing.T) {
	whole, alone := compile(t, Schema()), compile(t, ExtensionSchema())
	dir := t.TempDir()
	files := map[string]string{"go.mod": "module x\n", "users": "ada:$2y$05$x\n", "cmd/main.go": "package main\n", "main.go": "package main\n"}
	writeFiles(t, dir, files)
	for _, c := range serviceExtensions {
		text := "services:\n  web:\n    build: .\n    ports: ['80']\n    x-maru: " + c.text + "\nsecrets: {users: {file: users}}\n"
		var doc, extension any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(c.text), &extension); err != nil {
			t.Fatal(err)
		}
		got := loadText(t, dir, text)
		if program := len(got.Issues) == 0; program != c.valid {
			t.Errorf("the program: %s is valid: %v, want %v: %v", c.text, program, c.valid, got.Issues)
		}
		if err := whole.Validate(doc); (err == nil) != c.valid {
			t.Errorf("the compose schema: %s is valid: %v, want %v: %v", c.text, err == nil, c.valid, err)
		}
		if err := alone.Validate(extension); (err == nil) != c.valid {
			t.Errorf("the schema of x-maru: %s is valid: %v, want %v: %v", c.text, err == nil, c.valid, err)
		}
	}
}

func TestSchemaOfTheApp(t *testing.T) {
	s := compile(t, Schema())
	dir := t.TempDir()
	for text, valid := range map[string]bool{
		"{}":                         true,
		"{ci: github}":               true,
		"{ci: jenkins}":              false,
		"{environment: {}}":          false,
		"{environments: {Prod: {}}}": false,
		"{environments: {production: {branch: main, deploy: manual, domain: example.com, share: [preview]}, staging: , preview: {branch: \"*\", ttl: 72h, limit: 3, clone: production, domain: \"*.example.com\"}}}": true,
		"{environments: {a: {branch: \"*\", limit: 0}}}": false,
		"{environments: {a: {share: {b: c}}}}":           false,
		"{environments: {a: {deploy: sometimes}}}":       false,
		"{environments: {a: {ttl: 5}}}":                  false,
	} {
		file := "services: {web: {image: nginx}}\nx-maru: " + text + "\n"
		var doc any
		if err := yaml.Unmarshal([]byte(file), &doc); err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(doc); (err == nil) != valid {
			t.Errorf("the schema: %s is valid: %v, want %v: %v", text, err == nil, valid, err)
		}
		if got := loadText(t, dir, file); (len(got.Issues) == 0) != valid {
			t.Errorf("the program: %s is valid: %v, want %v: %v", text, len(got.Issues) == 0, valid, got.Issues)
		}
	}
}

// TestSchemaHasEveryKey holds the keys that the program reads against those of the published schema.
func TestSchemaHasEveryKey(t *testing.T) {
	defs := decodeSchema(extensionDefs)
	for def, keys := range map[string][]string{
		"x-maru-service":     serviceKeys,
		"x-maru-health":      healthFields,
		"x-maru-route-keys":  routeFields,
		"x-maru-match":       matchFields,
		"x-maru-limit-keys":  limitFields,
		"x-maru-auth":        authFields,
		"x-maru-redirect":    redirectFields,
		"x-maru-rewrite":     rewriteFields,
		"x-maru-header-edit": editFields,
		"x-maru-app":         {"ci", "environments"},
		"x-maru-environment": environmentFields,
	} {
		properties := sortedKeys(defs[def].(map[string]any)["properties"].(map[string]any))
		if got, want := strings.Join(properties, " "), strings.Join(keys, " "); got != want {
			t.Errorf("%s has %s; the program reads %s", def, got, want)
		}
	}
}
